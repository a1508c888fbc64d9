"""Scores: samples against the real train images, by torch-fidelity's metrics on an extractor's features.

Scoring is a pure function of samples, reference and settings. The Fréchet distance, precision and recall do not
depend on the samples' order; the Inception Score's splits and KID's subsets are drawn by row, so theirs do.
``kid_std`` is the spread over KID's subsets, no standard error of ``kid_mean``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch_fidelity
from numpy.typing import NDArray
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

from ddpm import devices, extractors, files
from ddpm.config import Evaluate
from ddpm.errors import UserError
from ddpm.extractors import Extractor, Features
from ddpm.processed import open_split
from ddpm.reference import WEIGHTS, RealFeatures, Reference, load_features, read_reference

ISC_SPLITS = 10
RNG_SEED = 2020  # torch-fidelity's default, on which published scores rest
PRC_ROWS = 1000  # rows of the distance matrix held at once: 50,000 images take 0.2 GB instead of 10

Scores = dict[str, float]


def evaluate(
    samples: Path, reference: Path, settings: Evaluate, sampling: dict[str, Any], device: torch.device
) -> tuple[dict[str, Scores], dict[str, Any]]:
    """Metrics by extractor, and the fingerprint that says which other scores they may be compared with.

    samples: .npy of uint8 (N, C, H, W). sampling: how they were drawn, as JSON-able values; part of the fingerprint.
    Raises UserError when the samples are too few for a metric or do not look like the real images.
    """
    images = read_samples(samples)
    index = read_reference(reference)
    expected = (index.channels, index.image_size, index.image_size)
    if images.shape[1:] != expected:
        raise UserError(
            f"{samples}: images of {images.shape[1:]} (channels, height, width) can't be scored against "
            f"{index.dataset}'s {expected}: train and sample again with this data.image_size and data.channels"
        )
    for name in settings.extractors:
        check_counts(settings, extractors.get(name), {"sample.count": len(images), "the train split": index.count})
    scores = {name: score(images, load_features(reference, name), settings, device) for name in settings.extractors}
    return scores, fingerprint(index, settings, len(images), sampling, device)


def calibrate(settings: Evaluate, processed: Path, reference: Path, device: torch.device) -> dict[str, Scores]:
    """What real images that no model has seen score: the test split against the reference, by extractor.

    ``count`` stands beside the scores: the Fréchet distance falls as the number of images grows. Metrics for which
    the split is too small are left out.
    """
    images, _ = open_split(processed, "test")
    scores = {}
    for name in settings.extractors:
        real = load_features(reference, name)
        counts = min(len(images), len(real.features))
        enough = [m for m in settings.metrics if counts >= minimum(m, settings, real.extractor)[0]]
        possible = settings.model_copy(update={"metrics": tuple(enough)})
        scores[name] = {"count": len(images), **score(images, real, possible, device)}
    return scores


def score(images: NDArray[np.uint8], real: RealFeatures, settings: Evaluate, device: torch.device) -> Scores:
    """``settings.metrics`` of uint8 (N, C, H, W) images against ``real``. Raises UserError rather than give a NaN."""
    fake = extractors.extract(real.network, images, settings.batch_size, device)
    name = real.extractor.name
    if not (fake.features.isfinite().all() and fake.logits.isfinite().all()):
        raise UserError(f"evaluate.extractors: {name} gives infinite features for these images; check its weights")
    scores: Scores = {}
    for metric in settings.metrics:
        scores |= METRICS[metric](fake, real, settings)
    bad = [f"{name}.{key}" for key, value in scores.items() if not math.isfinite(value)]
    if bad:
        raise UserError(f"evaluate.metrics: {', '.join(bad)} is not a finite number for these images: look at them")
    return scores


def _frechet(fake: Features, real: RealFeatures, settings: Evaluate) -> Scores:
    real_statistics = {"mu": real.mu, "sigma": real.sigma}
    found = fid_statistics_to_metric(fid_features_to_statistics(fake.features), real_statistics, verbose=False)
    return {real.extractor.frechet: found[torch_fidelity.KEY_METRIC_FID]}


def _inception_score(fake: Features, real: RealFeatures, settings: Evaluate) -> Scores:
    found = isc_features_to_metric(fake.logits, splits=ISC_SPLITS, shuffle=True, rng_seed=RNG_SEED)
    return {
        "is_mean": found[torch_fidelity.KEY_METRIC_ISC_MEAN],
        "is_std": found[torch_fidelity.KEY_METRIC_ISC_STD],
    }


def _kernel_distance(fake: Features, real: RealFeatures, settings: Evaluate) -> Scores:
    found = kid_features_to_metric(
        fake.features,
        real.features,
        kid_subsets=settings.kid_subsets,
        kid_subset_size=settings.kid_subset_size,
        rng_seed=RNG_SEED,
        verbose=False,
    )
    return {
        "kid_mean": found[torch_fidelity.KEY_METRIC_KID_MEAN],
        "kid_std": found[torch_fidelity.KEY_METRIC_KID_STD],
    }


def _precision_recall(fake: Features, real: RealFeatures, settings: Evaluate) -> Scores:
    found = prc_features_to_metric(
        fake.features,
        real.features,
        prc_neighborhood=settings.prc_neighborhood,
        prc_batch_size=PRC_ROWS,
        save_cpu_ram=True,
        verbose=False,
    )
    return {
        "precision": found[torch_fidelity.KEY_METRIC_PRECISION],
        "recall": found[torch_fidelity.KEY_METRIC_RECALL],
    }


METRICS: dict[str, Callable[[Features, RealFeatures, Evaluate], Scores]] = {
    "fid": _frechet,
    "isc": _inception_score,
    "kid": _kernel_distance,
    "prc": _precision_recall,
}


def minimum(metric: str, settings: Evaluate, extractor: Extractor) -> tuple[int, str]:
    """The fewest images that give ``metric`` a meaning, and why. torch-fidelity gives numbers, or NaN, for fewer."""
    neighbours = settings.prc_neighborhood + 1
    return {
        "fid": (
            extractor.dimensions + 1,
            f"more than the {extractor.dimensions} features, or their covariance is singular",
        ),
        "isc": (10 * ISC_SPLITS, f"10 for each of its {ISC_SPLITS} splits"),
        "kid": (settings.kid_subset_size, "evaluate.kid_subset_size, which may be lowered"),
        "prc": (10 * neighbours, f"10 times the {neighbours} that evaluate.prc_neighborhood spans"),
    }[metric]


def check_counts(settings: Evaluate, extractor: Extractor, counts: dict[str, int]) -> None:
    """Raises UserError that names the key, the number and the minimum when a metric has too few images.

    counts: images by where they are set: ``sample.count``, and the real ones under any other name.
    """
    for metric in settings.metrics:
        least, why = minimum(metric, settings, extractor)
        for where, count in counts.items():
            if count < least and (metric != "isc" or where == "sample.count"):
                raise UserError(
                    f"{where}: {count:,} images are too few for evaluate.metrics {metric!r} with {extractor.name}: "
                    f"at least {least:,} are needed ({why}); use more images or leave {metric!r} out"
                )


def read_samples(path: Path) -> NDArray[np.uint8]:
    """Memory-mapped uint8 (N, C, H, W). Raises UserError when the file is anything else; pickles are refused."""
    try:
        images = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; `dvc repro` makes it") from error
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: not a readable .npy of samples ({error}); run `dvc repro -f sample`") from error
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 4 or not len(images):
        found = f"{images.dtype} {images.shape}" if isinstance(images, np.ndarray) else "an archive"
        raise UserError(f"{path}: samples must be uint8 (count, channels, height, width), this is {found}")
    return images


def fingerprint(
    index: Reference, settings: Evaluate, count: int, sampling: dict[str, Any], device: torch.device
) -> dict[str, Any]:
    """``comparable``: what two scores must share to be compared; ``hash``: its digest, the same on every machine.

    ``environment`` is recorded beside it and not hashed: it moves scores in their last digits only.
    """
    comparable = {
        "images": {"sha256": index.images, "count": index.count, "channels": index.channels, "size": index.image_size},
        "extractors": {name: index.extractors[name][WEIGHTS] for name in settings.extractors},
        "samples": count,
        "sampling": sampling,
        "metrics": {
            **settings.model_dump(
                mode="json", include={"metrics", "kid_subsets", "kid_subset_size", "prc_neighborhood"}
            ),
            "isc_splits": ISC_SPLITS,
            "rng_seed": RNG_SEED,
        },
        "torch_fidelity": torch_fidelity.__version__,
    }
    environment = {
        "torch": torch.__version__,
        "device": devices.describe(device),
        "threads": torch.get_num_threads(),
    }
    return {"hash": files.digest(comparable), "comparable": comparable, "environment": environment}
