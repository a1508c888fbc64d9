"""What a metric and an extractor can judge: how many images, of how many channels."""

import itertools

from ddpm.base.errors import UserError
from ddpm.scoring import extractor, metric
from ddpm.scoring.evaluate_params import AUTO, Evaluate
from ddpm.scoring.extractor import Extractor


def suited(settings: Evaluate, features: Extractor) -> tuple[str, ...]:
    """The metrics of ``settings`` that these features can be judged by."""
    return tuple(name for name in settings.metrics if features.has_logits or not metric.get(name).needs_logits)


def possible(settings: Evaluate, features: Extractor, count: int) -> Evaluate:
    """``settings`` with only those of them for which ``count`` images are enough."""
    chosen = suited(settings, features)
    enough = [name for name in chosen if count >= metric.get(name).least(settings, features.dimensions)[0]]
    return settings.model_copy(update={"metrics": tuple(enough)})


def check_channels(settings: Evaluate, channels: int) -> None:
    """Raises UserError when an extractor cannot see images with so many channels."""
    for name in settings.chosen(0).extractors:
        seen = extractor.get(name).channels
        if seen and channels not in seen:
            raise UserError(
                f"evaluate.extractors: {name} sees images of {' or '.join(map(str, seen))} channels, data.channels is "
                f"{channels}: use classifier or random_conv"
            )


def check_suited(settings: Evaluate) -> None:
    """Raises UserError when a metric suits no extractor. What suits the one that ``auto`` may stand for is allowed."""
    if AUTO in settings.extractors:
        return
    extractors = [extractor.get(name) for name in settings.extractors]
    for name in settings.metrics:
        if not any(name in suited(settings, each) for each in extractors):
            raise UserError(
                f"evaluate.metrics: {name} is a score of classes, and {' and '.join(settings.extractors)} cannot "
                f"tell any apart: leave {name} out, or add classifier to evaluate.extractors"
            )


def check_counts(settings: Evaluate, counts: dict[str, int]) -> None:
    """Raises UserError that names the key, the number and the minimum when a metric has too few images.

    counts: image counts by the key that sets them: ``sample.count``, and any other name for real images. They must be
    enough for whatever ``auto`` may stand for, because the extractor without classes has more features.
    """
    features = [extractor.get(name) for name in settings.chosen(0).extractors]
    pairs = [(each, chosen) for each in features for chosen in suited(settings, each)]
    for (each, chosen), (where, count) in itertools.product(pairs, counts.items()):
        judge = metric.get(chosen)
        least, why = judge.least(settings, each.dimensions)
        if count < least and (judge.compares or where == "sample.count"):
            raise UserError(
                f"{where}: {count:,} images are too few for evaluate.metrics {chosen!r} with {each.name}: "
                f"at least {least:,} are needed ({why}); use more images or leave {chosen!r} out"
            )
