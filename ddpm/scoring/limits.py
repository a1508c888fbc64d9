"""What a metric and an extractor can judge: how many images, of how many channels and classes."""

import itertools

from ddpm.base.errors import UserError
from ddpm.scoring import extractor, metric
from ddpm.scoring.evaluate_params import Evaluate
from ddpm.scoring.extractor import Extractor


def suitable_metrics(evaluate: Evaluate, features: Extractor) -> tuple[str, ...]:
    """The metrics of ``evaluate`` that these features can be judged by."""
    return tuple(name for name in evaluate.metrics if features.has_logits or not metric.get(name).needs_logits)


def possible_metrics(evaluate: Evaluate, features: Extractor, count: int) -> Evaluate:
    """``evaluate`` with only those of them for which ``count`` images are enough."""
    names = suitable_metrics(evaluate, features)
    enough = [name for name in names if count >= metric.get(name).least(evaluate, features.dimensions)[0]]
    return evaluate.model_copy(update={"metrics": tuple(enough)})


def check_channels(evaluate: Evaluate, channels: int) -> None:
    """Raises UserError when an extractor cannot see images with these channels. ``evaluate`` is ``resolved``."""
    for name in evaluate.extractors:
        allowed = extractor.get(name).channels
        if allowed and channels not in allowed:
            raise UserError(
                f"evaluate.extractors: {name} sees images of {' or '.join(map(str, allowed))} channels, data.channels "
                f"is {channels}: use classifier or random_conv"
            )


def check_classes(evaluate: Evaluate, classes: int, dataset: str) -> None:
    """Raises UserError when an extractor that learns the dataset's classes finds none. ``evaluate`` is ``resolved``."""
    for name in evaluate.extractors:
        if extractor.get(name).knows_classes and classes < 2:
            raise UserError(
                f"evaluate.extractors: {name!r} needs at least 2 classes, {dataset} has {classes}: use auto or "
                "random_conv, or sort the images into a folder per class"
            )


def check_counts(evaluate: Evaluate, counts: dict[str, int]) -> None:
    """Raises UserError that names the key, the number and the minimum when a metric has too few images.

    evaluate: ``resolved``. counts: image counts by the key that sets them: ``sample.count``, and any other name for
    real images.
    """
    extractors = [extractor.get(name) for name in evaluate.extractors]
    pairs = [(features, name) for features in extractors for name in suitable_metrics(evaluate, features)]
    for (features, name), (where, count) in itertools.product(pairs, counts.items()):
        judge = metric.get(name)
        least, why = judge.least(evaluate, features.dimensions)
        if count < least and (judge.compares or where == "sample.count"):
            raise UserError(
                f"{where}: {count:,} images are too few for evaluate.metrics {name!r} with {features.name}: "
                f"at least {least:,} are needed ({why}); use more images, leave {name!r} out, or take another extractor"
            )
