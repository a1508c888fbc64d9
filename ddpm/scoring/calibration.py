"""What the numbers mean on this data: the scores of real images that no model has seen, and of spoiled ones.

The test split against the train split is the floor: no model is asked to be nearer. Blurred and noised copies of it
are a ladder of known steps away from it, on which an extractor that is of use climbs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from ddpm.compute import noise
from ddpm.data.processed import open_split
from ddpm.scoring import extractor, frechet
from ddpm.scoring.extractor import Features
from ddpm.scoring.frechet import Curve, Distance
from ddpm.scoring.reference import RealFeatures, load_features
from ddpm.scoring.scores import Scores, possible, score
from ddpm.scoring.settings import Evaluate

FILE = "calibration.json"  # in data/reference/
LADDER_IMAGES = 5000  # of the test split, at most: each rung passes through the extractor again
NOISE_BATCH = 256  # images whose noise is drawn at once
DISTANCES = ("fid", "kid")
SEED = 2020

Images = NDArray[np.uint8]
Rung = dict[str, float]


def blurred(images: Images, level: float) -> Images:
    """Through a Gaussian whose standard deviation is ``level`` times the image's side; edges are repeated."""
    sigma = (0, 0, level * images.shape[2], level * images.shape[3])
    return gaussian_filter(images.astype(np.float32), sigma, mode="nearest").round().astype(np.uint8)


def noised(images: Images, level: float) -> Images:
    """With the same Gaussian noise at any level, of standard deviation ``level`` times the range of grey levels."""
    spoiled = []
    for index in torch.arange(len(images)).split(NOISE_BATCH):
        batch = torch.from_numpy(images[index.numpy()]).float()
        spoiled.append(batch + 255 * level * noise.gaussian(SEED, "calibration", index, 0, images.shape[1:]))
    return torch.cat(spoiled).round().clamp(0, 255).to(torch.uint8).numpy()


SPOILING: dict[str, tuple[Callable[[Images, float], Images], tuple[float, ...]]] = {
    "blur": (blurred, (1 / 32, 1 / 16, 1 / 8)),
    "noise": (noised, (1 / 16, 1 / 8, 1 / 4)),
}


def calibrate(settings: Evaluate, processed: Path, reference: Path, device: torch.device) -> dict[str, Any]:
    """``floor`` and ``ladder`` by extractor, what ``FILE`` says.

    ``count`` stands beside the scores: the Fréchet distance falls as the number of images grows, and in a split that
    is stratified by class it is below that of as many images drawn independently. Metrics for which the split is too
    small are left out. A ladder that does not climb is said on stderr and does not end the run: the cause may lie in
    the data, such as images without any detail to blur.
    """
    images, _ = open_split(processed, "test")
    found = {}
    for name in settings.extractors:
        real = load_features(reference, name)
        floor = {"count": len(images), **score(real.held_out, real, possible(settings, real.extractor, len(images)))}
        if curve := fd_curve(real.held_out, real, settings, device):
            floor |= extrapolated(real, curve)
        rungs = ladder(np.array(images[:LADDER_IMAGES]), real, settings, device)
        for line in falls(rungs, real):
            print(f"warning: {line}", file=sys.stderr)
        found[name] = {"floor": floor, "ladder": rungs}
    return found


def fd_curve(fake: Features, real: RealFeatures, settings: Evaluate, device: torch.device) -> Curve | None:
    """The Fréchet distance against N; None where it is not asked for, or the images are too few."""
    if "fid" not in settings.metrics or not frechet.is_enough(len(fake.features), real.extractor.dimensions):
        return None
    return frechet.extrapolate(fake.features.to(device, torch.float64), Distance(real.mu, real.sigma, device))


def extrapolated(real: RealFeatures, curve: Curve) -> Scores:
    """The curve's limit under its names: ``fid_infinity`` for Inception, else ``fd_infinity``, and its error."""
    name = f"{real.extractor.frechet}_infinity"
    return {name: curve.infinity, f"{name}_se": curve.infinity_se}


def ladder(images: Images, real: RealFeatures, settings: Evaluate, device: torch.device) -> dict[str, list[Rung]]:
    """For each way of spoiling images, the distances of (N, C, H, W) images by ``level``, ascending from 0.

    ``images`` are the first of the test split. Empty where no distance is asked for, or the images are too few.
    """
    distances = tuple(metric for metric in settings.metrics if metric in DISTANCES)
    chosen = possible(settings.model_copy(update={"metrics": distances}), real.extractor, len(images))
    if not chosen.metrics:
        return {}
    clean = score(Features(*(part[: len(images)] for part in real.held_out)), real, chosen)
    rungs: dict[str, list[Rung]] = {}
    for kind, (spoil, levels) in SPOILING.items():
        rungs[kind] = [{"level": 0.0, **clean}]
        for level in levels:
            fake = extractor.extract(real.network, spoil(images, level), settings.batch_size, device)
            rungs[kind].append({"level": level, **score(fake, real, chosen)})
    return rungs


def falls(rungs: dict[str, list[Rung]], real: RealFeatures) -> list[str]:
    """A line for each distance that does not grow at every step of a way of spoiling images."""
    lines = []
    for kind, steps in rungs.items():
        for metric in steps[0].keys() & {real.extractor.frechet, "kid_mean"}:
            if any(after[metric] <= before[metric] for before, after in pairwise(steps)):
                climb = ", ".join(f"{step[metric]:.4g} at {step['level']:.3g}" for step in steps)
                lines.append(
                    f"{real.extractor.name}.{metric} does not grow with each step of {kind} on real test images "
                    f"({climb}): on this data it says little of how good an image is; trust other metrics more"
                )
    return sorted(lines)
