"""Scores: images against the real train images, by torch-fidelity's metrics on an extractor's features.

Scoring is a pure function of images, reference and settings. The Fréchet distance, precision and recall do not depend
on the images' order; the Inception Score and KID do, because their splits and subsets are drawn by row. ``kid_std`` is
the spread over KID's subsets, not a standard error of ``kid_mean``.
"""

from __future__ import annotations

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
from ddpm.scoring.extractor import Features
from ddpm.scoring.limits import ISC_SPLITS
from ddpm.scoring.reference import RealFeatures
from ddpm.scoring.settings import Evaluate

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
