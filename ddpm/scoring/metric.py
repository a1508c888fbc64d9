"""Metrics: what their numbers mean, and how they follow from features.

Contract: a variant declares its scores, which of them is better when, the fewest images that it makes sense for, and
computes them from the features of samples and of real images, or from the images themselves. All else that lists scores
reads these declarations: params.yaml, verdicts, the gate. They are read without torch and torch-fidelity, whose imports
take seconds: a variant imports them where it computes.
"""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, cast

from ddpm.base.images import Images
from ddpm.base.tensor import Device
from ddpm.base.variant import Variant, names, variant_class
from ddpm.scoring.evaluate_params import Evaluate

if TYPE_CHECKING:
    from ddpm.scoring.features import Features, RealFeatures
else:
    Features = RealFeatures = Any  # for annotations: importing torch takes a second

__all__ = ["Direction", "FeatureMetric", "Features", "ImageMetric", "RealFeatures", "Score"]

Direction = Literal["lower", "higher"]


OPPONENT = "c2st"  # the metric of images that is an eye of the panel; each extractor is another
FEWEST_EYES = 2
ISC_SPLITS = 10
RNG_SEED = 2020  # torch-fidelity's default, used for published scores


class Score(NamedTuple):
    """One number that is better one way.

    floor: the change that never counts, in its own unit; the default of ``compare.floors``. title: in words, if the
    name is none. is_share: of images, 0 to 1. of: the score that this is another estimate of; it shares its floor, and
    is shown to those who ask for it. sees: the damage to real images that makes it worse, of examples/sanity.py.
    """

    name: str
    direction: Direction
    floor: float | None = None
    title: str = ""
    is_share: bool = False
    of: str = ""
    sees: tuple[str, ...] = ()


# scores that come from elsewhere: of an extractor that knows the classes, of all eyes together, and of the likelihood
CLASS_ACCURACY = Score("class_accuracy", "higher", 0.01, "class accuracy")
PANEL = Score("score", "lower", 0.02, "panel score")  # of several eyes: ddpm/scoring/panel.py
LIKELIHOOD = (Score("bits_per_dim", "lower", 0.01, "bits per dimension"),)


class Metric(Variant, ABC):
    """Contract of a metric.

    scores: those of its numbers that are judged. compares: whether it looks at real images.
    """

    scores: ClassVar[tuple[Score, ...]]
    compares: ClassVar[bool] = True

    def least(self, evaluate: Evaluate, dimensions: int) -> tuple[int, str]:
        """The fewest images for which it is meaningful, and why. dimensions: D, the number of features."""
        return 100, "100, or chance decides"


class FeatureMetric(Metric):
    """A metric of an extractor's features, whose name begins those of its scores.

    needs_logits: whether it is left out for extractors that tell no classes apart.
    """

    needs_logits: ClassVar[bool] = False

    @abstractmethod
    def measure(self, fake: Features, real: RealFeatures, evaluate: Evaluate) -> dict[str, float]:
        """The declared scores, and other numbers worth a record, by name. fake: of N images."""


class ImageMetric(Metric):
    """A metric of the images themselves, whose own name begins those of its scores."""

    @abstractmethod
    def measure(self, fake: Images, real: Images, evaluate: Evaluate, device: Device) -> dict[str, float]:
        """The declared scores by name. fake, real: (N, C, H, W) and (M, C, H, W) uint8."""


def get(name: str) -> Metric:
    """The metric called ``name``, one of ``variants.names("metrics")``."""
    return cast(Metric, variant_class("metrics", name)())


def of_images(evaluate: Evaluate) -> list[ImageMetric]:
    """The metrics of ``evaluate`` that look at the images themselves."""
    return [one for one in map(get, evaluate.metrics) if isinstance(one, ImageMetric)]


def has_panel(evaluate: Evaluate) -> bool:
    """Whether there are enough eyes for a panel's score."""
    return len(evaluate.extractors) + (OPPONENT in evaluate.metrics) >= FEWEST_EYES


def every() -> list[Metric]:
    """Those that are measured by default come first."""
    default = Evaluate.model_fields["metrics"].default
    return [get(name) for name in sorted(names("metrics"), key=lambda name: name not in default)]


def of_extractors() -> list[Score]:
    """All scores of an extractor's features, in the order in which they are shown: distances, then those of which more
    is better, then other estimates of the same."""
    scores = [score for metric in every() for score in metric.scores]
    scores.sort(key=lambda score: score.direction == "higher")
    return sorted([*scores, CLASS_ACCURACY, PANEL], key=lambda score: bool(score.of))
