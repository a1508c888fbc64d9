"""What a metric and an extractor can judge: how many images, of how many channels and classes."""

import itertools

from ddpm.base.errors import UserError
from ddpm.scoring import extractor, metric
from ddpm.scoring.evaluate_params import Evaluate
from ddpm.scoring.extractor import Extractor
from ddpm.scoring.metric import FeatureMetric, Metric


def suitable_metrics(evaluate: Evaluate, features: Extractor) -> list[FeatureMetric]:
    """The metrics of ``evaluate`` that these features can be judged by."""
    of_features = (one for one in map(metric.get, evaluate.metrics) if isinstance(one, FeatureMetric))
    return [one for one in of_features if features.has_logits or not one.needs_logits]


def possible_metrics(evaluate: Evaluate, features: Extractor, count: int) -> Evaluate:
    """``evaluate`` with only those of them, and of the metrics of images, for which ``count`` images are enough."""
    suitable = [*suitable_metrics(evaluate, features), *metric.of_images(evaluate)]
    enough = [one.name for one in suitable if count >= one.least(evaluate, features.dimensions)[0]]
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
    """Raises UserError that names the key, the number and the minimum when a metric has too few images: the metric that
    needs the most.

    evaluate: ``resolved``. counts: image counts by the key that sets them: ``sample.count``, and any other name for
    real images.
    """
    judges = list[tuple[Metric, str, int]]()
    for one in map(extractor.get, evaluate.extractors):
        judges += [(judge, f" with {one.name}", one.dimensions) for judge in suitable_metrics(evaluate, one)]
    judges += [(judge, "", 0) for judge in metric.of_images(evaluate)]
    refusals = list[tuple[int, str]]()
    for (judge, features, dimensions), (where, count) in itertools.product(judges, counts.items()):
        least, why = judge.least(evaluate, dimensions)
        if count < least and (judge.compares or where == "sample.count"):
            other = ", or take another extractor" if features else ""
            few = f"{where}: {count:,} images are too few for evaluate.metrics {judge.name!r}{features}: at least "
            remedy = f"use more images, or leave {judge.name!r} out{other}"
            refusals.append((least, f"{few}{least:,} are needed ({why}); {remedy}"))
    if refusals:
        raise UserError(max(refusals)[1])
