"""An image by a fast sampler against 1000 ancestral steps: the time, and the cost in Fréchet distance.

Each round draws a set of images from another seed, so three rounds also give three distances. A sampler is no worse if
its mean distance exceeds the ancestral one's by at most one standard deviation of such a difference, taken from the
three seeds: sqrt(sd_fast^2 + sd_ancestral^2).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

from ddpm.base import variant
from ddpm.base.sections import section
from ddpm.compute import devices
from ddpm.model.model_file import Loaded, load_model
from ddpm.sampling.generator import Generator
from ddpm.sampling.sample_params import Sample
from ddpm.scoring.features import extract
from ddpm.scoring.reference import RealFeatures, load_features
from tests.benchmarks.harness import Bench, Case, Goal, Options, Spread, faster

SEEDS = 3
BATCH = 240
SLOW: dict[str, Any] = {"sampler": "ancestral", "steps": 1000}
FAST: tuple[dict[str, Any], ...] = (
    {"sampler": "ancestral", "steps": 50},
    {"sampler": "ddim", "steps": 50},
    {"sampler": "dpmpp_2m", "steps": 20, "spacing": "log_snr"},
    {"sampler": "unipc", "steps": 20, "spacing": "log_snr"},
)


def benches(options: Options) -> Iterator[Bench]:
    count = 8 if options.quick else 240
    options.pipeline.repro()
    folder = options.pipeline.folder
    model = load_model(folder / "data/model/model.safetensors", options.device)
    real = load_features(folder / "data/reference", "classifier")
    precision = str(devices.precision("auto", options.device)).removeprefix("torch.")
    drawn: dict[str, list[NDArray[np.uint8]]] = {}

    def case(choice: dict[str, Any]) -> Case:
        name = f"sample: {choice['sampler']} {choice['steps']}"
        return Case(name, precision, _drawing(model, choice, count, options, drawn.setdefault(name, [])), count,
                    least_seconds=0, warm=False)  # fmt: skip

    shortened = 20 if options.quick else 1
    slow, *fast = (case({**choice, "steps": choice["steps"] // shortened}) for choice in (SLOW, *FAST))
    goals = []
    for each in fast:
        goals.append(faster(each, slow, 20))
        goals.append(_no_worse(each, slow, drawn, real, options.device))
    yield Bench([slow, *fast], goals, rounds=SEEDS)


def _drawing(
    model: Loaded, choice: dict[str, Any], count: int, options: Options, sets: list[NDArray[np.uint8]]
) -> Callable[[], None]:
    """Draws ``count`` images, from another seed each time, and keeps them in ``sets``."""
    sampler = variant.build("samplers", {"name": choice["sampler"]}, "sample.sampler")
    chosen = section(Sample, {**choice, "count": count, "sampler": sampler})
    generator, seeds = Generator.of(model, chosen, options.device), itertools.count()

    def draw() -> None:
        seed = next(seeds)
        starts = range(0, count, BATCH)
        parts = [generator.images(range(i, min(i + BATCH, count)), seed, model.image_shape) for i in starts]
        sets.append(torch.cat(parts).numpy())

    return draw


def _no_worse(
    fast: Case, slow: Case, drawn: dict[str, list[NDArray[np.uint8]]], real: RealFeatures, device: torch.device
) -> Goal:
    """The excess of the mean distance, in standard deviations of such a difference: at most 1."""

    def excess() -> float:
        ours, theirs = ([frechet(images, real, device) for images in drawn[case.name]] for case in (fast, slow))
        noise = float(np.hypot(np.std(ours, ddof=1), np.std(theirs, ddof=1)))
        return float(np.mean(ours) - np.mean(theirs)) / noise

    return Goal(
        f"{fast.name}: Fréchet distance over that of {slow.name.removeprefix('sample: ')}",
        fast.precision,
        lambda results: Spread(*[excess()] * 3),
        1,
        (fast.key, slow.key),
        "sd",
        at_most=True,
    )


def frechet(images: NDArray[np.uint8], real: RealFeatures, device: torch.device) -> float:
    """The distance of uint8 (N, C, H, W) images from the real train split, in the classifier's features."""
    found = extract(real.network, images, 64, device).features
    statistics = fid_features_to_statistics(found)
    distance = fid_statistics_to_metric(statistics, {"mu": real.mu, "sigma": real.sigma}, verbose=False)
    return float(next(iter(distance.values())))
