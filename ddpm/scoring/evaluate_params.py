"""The ``evaluate`` section of params.yaml."""

from collections.abc import Iterator
from typing import Annotated, Self

from pydantic import Field, NonNegativeInt

from ddpm.base.sections import Affects, Positive, Section
from ddpm.base.variant import Members
from ddpm.scoring import extractor

AUTO = "auto"  # in evaluate.extractors: ``auto``
FEWEST_IMAGES = 20  # of c2st
CHOICE = ("classifier", "efficientnet_lite0", "random_conv")  # what ``auto`` may stand for


class Likelihood(Section):
    """The bound on the likelihood is computed for ``images`` of each split, at ``timesteps`` values of t."""

    images: NonNegativeInt = 0
    timesteps: Positive = 50


class C2st(Section):
    """The metric ``c2st``: ``images`` of the samples and as many real ones, half of which 2 * ``repeats`` networks are
    fitted to for ``steps``."""

    images: Annotated[int, Field(ge=FEWEST_IMAGES, multiple_of=2)] = 700
    steps: Positive = 250
    repeats: Positive = 1


class Evaluate(Section):
    """The features and metrics that compare samples with real images. ``auto`` among ``extractors`` is ``resolved``
    when the images are known."""

    extractors: Annotated[tuple[str, ...], Field(min_length=1), Members("extractors", (AUTO,))]
    metrics: Annotated[tuple[str, ...], Field(min_length=1), Members("metrics")] = ("fid", "isc", "kid", "prc")
    batch_size: Annotated[Positive, Affects.ROUNDING] = 64
    kid_subsets: Positive = 100
    kid_subset_size: Annotated[int, Field(ge=2)] = 1000
    prc_neighborhood: Positive = 3
    c2st: C2st = C2st()
    likelihood: Likelihood = Likelihood()

    def refusals(self) -> Iterator[str]:
        for field, names in {"extractors": self.extractors, "metrics": self.metrics}.items():
            if len(set(names)) < len(names):
                yield f"{field}: [{', '.join(names)}] contains a duplicate; list each once"

    def reference_identity(self) -> str:
        """Identity of the settings that the reference stage reads."""
        return self.model_copy(update={"likelihood": Likelihood()}).identity()

    def resolve(self, classes: int, channels: int) -> Self:
        """The same params, with what ``auto`` stands for on this machine for images with these classes and channels."""
        names = (choose_extractor(classes, channels) if name == AUTO else name for name in self.extractors)
        return self.model_copy(update={"extractors": tuple(dict.fromkeys(names))})


def choose_extractor(classes: int, channels: int) -> str:
    """The extractor for images with these classes and channels: one that learns the classes, if there are several;
    otherwise one that was trained on photographs, for RGB and where its package is installed (docs/extractors.md
    compares them).
    """
    of_classes, of_photographs, of_anything = CHOICE
    if classes > 1:
        return of_classes
    return of_photographs if channels == 3 and extractor.is_installed(of_photographs) else of_anything
