"""What a metric and an extractor can judge: how many images, of how many channels.

Apart from the scores, because the check of params.yaml need not import torch-fidelity, which takes two seconds.
"""

from __future__ import annotations

import itertools

from ddpm.base.errors import UserError
from ddpm.scoring import extractor
from ddpm.scoring.extractor import Extractor
from ddpm.scoring.settings import Evaluate

ISC_SPLITS = 10


def minimum(metric: str, settings: Evaluate, features: Extractor) -> tuple[int, str]:
    """The fewest images for which ``metric`` is meaningful, and why. For fewer, torch-fidelity still gives numbers or
    NaN."""
    neighbours, dimensions = settings.prc_neighborhood + 1, features.dimensions
    return {
        "fid": (dimensions + 1, f"more than the {dimensions} features, or their covariance is singular"),
        "isc": (10 * ISC_SPLITS, f"10 for each of its {ISC_SPLITS} splits"),
        "kid": (settings.kid_subset_size, "evaluate.kid_subset_size, which may be lowered"),
        "prc": (10 * neighbours, f"10 times the {neighbours} that evaluate.prc_neighborhood spans"),
    }[metric]


def possible(settings: Evaluate, features: Extractor, count: int) -> Evaluate:
    """``settings`` with only those metrics for which ``count`` images are enough."""
    enough = [metric for metric in settings.metrics if count >= minimum(metric, settings, features)[0]]
    return settings.model_copy(update={"metrics": tuple(enough)})


def check_channels(settings: Evaluate, channels: int) -> None:
    """Raises UserError when an extractor cannot see images with so many channels."""
    for name in settings.extractors:
        seen = extractor.get(name).channels
        if seen and channels not in seen:
            raise UserError(
                f"evaluate.extractors: {name} sees images of {' or '.join(map(str, seen))} channels, data.channels is "
                f"{channels}: use classifier"
            )


def check_counts(settings: Evaluate, counts: dict[str, int]) -> None:
    """Raises UserError that names the key, the number and the minimum when a metric has too few images.

    counts: image counts by the key that sets them: ``sample.count``, and any other name for real images.
    """
    for name, metric, (where, count) in itertools.product(settings.extractors, settings.metrics, counts.items()):
        least, why = minimum(metric, settings, extractor.get(name))
        if count < least and (metric != "isc" or where == "sample.count"):
            raise UserError(
                f"{where}: {count:,} images are too few for evaluate.metrics {metric!r} with {name}: "
                f"at least {least:,} are needed ({why}); use more images or leave {metric!r} out"
            )
