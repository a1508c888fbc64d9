"""What a metric and an extractor can judge: how many images, of how many channels."""

from __future__ import annotations

import itertools

from ddpm.base.errors import UserError
from ddpm.scoring import extractor, metric
from ddpm.scoring.extractor import Extractor
from ddpm.scoring.settings import Evaluate


def possible(settings: Evaluate, features: Extractor, count: int) -> Evaluate:
    """``settings`` with only those metrics for which ``count`` images are enough."""
    chosen = settings.metrics
    enough = [name for name in chosen if count >= metric.get(name).least(settings, features.dimensions)[0]]
    return settings.model_copy(update={"metrics": tuple(enough)})


def check_channels(settings: Evaluate, channels: int) -> None:
    """Raises UserError when an extractor cannot see images with so many channels."""
    for name in settings.extractors:
        seen = extractor.get(name).channels
        if seen and channels not in seen:
            raise UserError(
                f"evaluate.extractors: {name} sees images of {' or '.join(map(str, seen))} channels, data.channels is "
                f"{channels}: use classifier or random_conv"
            )


def check_logits(settings: Evaluate) -> None:
    """Raises UserError when the Inception Score is asked of an extractor that tells no classes apart."""
    for name in settings.extractors:
        if "isc" in settings.metrics and not extractor.get(name).has_logits:
            raise UserError(f"evaluate.metrics: isc is a score of classes, and {name} has none: leave isc out")


def check_counts(settings: Evaluate, counts: dict[str, int]) -> None:
    """Raises UserError that names the key, the number and the minimum when a metric has too few images.

    counts: image counts by the key that sets them: ``sample.count``, and any other name for real images.
    """
    for name, chosen, (where, count) in itertools.product(settings.extractors, settings.metrics, counts.items()):
        judge = metric.get(chosen)
        least, why = judge.least(settings, extractor.get(name).dimensions)
        if count < least and (judge.splits or where == "sample.count"):
            raise UserError(
                f"{where}: {count:,} images are too few for evaluate.metrics {chosen!r} with {name}: "
                f"at least {least:,} are needed ({why}); use more images or leave {chosen!r} out"
            )
