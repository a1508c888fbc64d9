"""Scores: images against the real train images, by torch-fidelity's metrics on an extractor's features.

Scoring is a pure function of images, reference and settings. The Fréchet distance, precision and recall do not depend
on the images' order; the Inception Score and KID do, because their splits and subsets are drawn by row. ``kid_std`` is
the spread over KID's subsets, not a standard error of ``kid_mean``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import torch_fidelity
from numpy.typing import NDArray
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

from ddpm.base.errors import UserError
from ddpm.scoring import extractor
from ddpm.scoring.extractor import Extractor, Features
from ddpm.scoring.reference import RealFeatures
from ddpm.scoring.settings import Evaluate

ISC_SPLITS = 10
RNG_SEED = 2020  # torch-fidelity's default, used for published scores
PRC_ROWS = 1000  # rows of the distance matrix in memory at once: 50,000 images take 0.2 GB instead of 10

# torch-fidelity's names of scores -> ours; the name of the Fréchet distance depends on the extractor
NAMES = {
    torch_fidelity.KEY_METRIC_ISC_MEAN: "is_mean",
    torch_fidelity.KEY_METRIC_ISC_STD: "is_std",
    torch_fidelity.KEY_METRIC_KID_MEAN: "kid_mean",
    torch_fidelity.KEY_METRIC_KID_STD: "kid_std",
    torch_fidelity.KEY_METRIC_PRECISION: "precision",
    torch_fidelity.KEY_METRIC_RECALL: "recall",
}

Scores = dict[str, float]


def score(fake: Features, real: RealFeatures, settings: Evaluate) -> Scores:
    """``settings.metrics`` of images with features ``fake`` against ``real``.

    Raises UserError instead of returning a NaN.
    """
    name = real.extractor.name
    if not (fake.features.isfinite().all() and fake.logits.isfinite().all()):
        raise UserError(f"evaluate.extractors: {name} gives infinite features for these images; check its weights")
    names = NAMES | {torch_fidelity.KEY_METRIC_FID: real.extractor.frechet}
    scores: Scores = {}
    for metric in settings.metrics:
        found = METRICS[metric](fake, real, settings)
        scores |= {names[key]: value for key, value in found.items() if key in names}
    if bad := [f"{name}.{key}" for key, value in scores.items() if not math.isfinite(value)]:
        raise UserError(f"evaluate.metrics: {', '.join(bad)} is not a finite number for these images: look at them")
    return scores


def class_accuracy(fake: Features, labels: NDArray[np.int64]) -> float:
    """The share of images that an extractor takes for what their (N,) labels say."""
    return float((fake.logits.argmax(1).numpy() == labels).mean())


def possible(settings: Evaluate, features: Extractor, count: int) -> Evaluate:
    """``settings`` with only those metrics for which ``count`` images are enough."""
    enough = [metric for metric in settings.metrics if count >= minimum(metric, settings, features)[0]]
    return settings.model_copy(update={"metrics": tuple(enough)})


METRICS: dict[str, Callable[[Features, RealFeatures, Evaluate], dict[str, float]]] = {
    "fid": lambda fake, real, settings: fid_statistics_to_metric(
        fid_features_to_statistics(fake.features), {"mu": real.mu, "sigma": real.sigma}, verbose=False
    ),
    "isc": lambda fake, real, settings: isc_features_to_metric(
        fake.logits, splits=ISC_SPLITS, shuffle=True, rng_seed=RNG_SEED
    ),
    "kid": lambda fake, real, settings: kid_features_to_metric(
        fake.features,
        real.features,
        kid_subsets=settings.kid_subsets,
        kid_subset_size=settings.kid_subset_size,
        rng_seed=RNG_SEED,
        verbose=False,
    ),
    "prc": lambda fake, real, settings: prc_features_to_metric(
        fake.features,
        real.features,
        prc_neighborhood=settings.prc_neighborhood,
        prc_batch_size=PRC_ROWS,
        save_cpu_ram=True,
        verbose=False,
    ),
}


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
