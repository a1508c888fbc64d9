"""A few steps of the real training and sampling, on the real ranks, and what follows for the whole run.

Run as ``python -m ddpm.forecast.pilot`` by torchrun, for ``ddpm.forecast.estimate``.
"""

from __future__ import annotations

import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

import numpy as np
import torch

from ddpm.base.errors import exit_code
from ddpm.base.files import write_json
from ddpm.compute import devices, distributed
from ddpm.compute.distributed import ALONE, Ranks
from ddpm.forecast import estimate
from ddpm.forecast.estimate import RESULT, Forecast
from ddpm.model import architecture
from ddpm.model.file import Loaded
from ddpm.params import config
from ddpm.params.config import Config
from ddpm.sampling.generator import Generator
from ddpm.tracking import previews
from ddpm.training.trainer import Trainer

SECONDS = 1.0  # a batch that takes half as long is large enough
LONG = 2.0  # seconds: if the first step takes longer, there is no second
REPEATS = 10  # of a step, at most
clock = time.perf_counter


@dataclass(frozen=True)
class Measured:
    """step: seconds of a training step. evaluation: seconds of the network and the sampler for one image at one step,
    on one rank. memory: bytes that training takes of each rank. ranks: how many; device: which, for a person."""

    step: float
    evaluation: float
    memory: int
    ranks: int
    device: str


def expected(settings: Config, found: Measured, images: int | None) -> Forecast:
    """The time of all steps, previews and images, without checkpoints and the slow first steps.

    images: in the train split, None if not known yet.
    """
    options, sample = settings.train, settings.sample
    steps = options.steps
    if options.epochs and images:
        steps = math.ceil(options.epochs * images / options.batch_size)
    trained = steps or math.ceil(1000 / options.batch_size)
    pictures = estimate.grids_drawn(options, trained, (images or 1000) / options.batch_size)
    preview = math.ceil(previews.IMAGES / found.ranks) * min(previews.STEPS, settings.diffusion.T) * found.evaluation
    drawn = sample.count * len(sample.seeds) / found.ranks
    return Forecast(
        steps=steps,
        train=trained * found.step + pictures * preview,
        sample=drawn * sample.steps * found.evaluation,
        memory=found.memory,
        device=found.device,
    )


def measure(settings: Config, device: torch.device, ranks: Ranks = ALONE) -> Measured:
    """Called on every rank; each returns the same, except for ``evaluation``, of which the main rank's counts."""
    training = settings.training()
    training = training.model_copy(update={"train": training.train.model_copy(update={"compile": False})})
    whole = training.train.batch_size
    data = training.data
    shape = (64, data.channels, data.image_size, data.image_size)
    pictures = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)

    def cost(images: int) -> np.ndarray:
        options = training.train.model_copy(update={"batch_size": images})
        trainer = Trainer(training.model_copy(update={"train": options}), pictures, device, ranks)
        seconds = _typical((trainer.step(number) for number in count(1)), device, ranks)
        return np.array([seconds, ranks.largest(devices.peak_memory(device))])

    least = training.train.accumulate * ranks.size
    step, memory = _grown(min(least, whole), whole, cost)  # Trainer refuses a batch below the least
    return Measured(step, _evaluation(settings, device), int(memory), ranks.size, devices.describe(device))


def _evaluation(settings: Config, device: torch.device) -> float:
    """Seconds for one image at one step of sampling."""
    training, sample = settings.training(), settings.sample
    network = architecture.build(training).to(device).eval().requires_grad_(False)
    generator = Generator.of(Loaded(network, training, {}), sample, device)
    shape = (training.data.channels, training.data.image_size, training.data.image_size)

    def cost(images: int) -> np.ndarray:
        states = generator.trajectory(range(images), 0, shape)
        next(states)  # x_T
        return np.array([_typical(states, device, ALONE)])

    whole = min(sample.batch_size, sample.count)
    return float(_grown(1, whole, cost)[0]) / whole


def _grown(least: int, whole: int, cost: Callable[[int], np.ndarray]) -> np.ndarray:
    """What ``whole`` images cost, seconds first, from batches that grow while they are quick.

    Larger batches are on the line through the last two: a step costs something by itself, and each image adds to it.
    If only one batch was tried, its seconds count as those of its images, and its memory as that of the step itself.
    """
    images, found = least, cost(least)
    slope, spent = np.zeros_like(found), found[0]
    slope[0] = found[0] / images
    while images < whole and 2 * found[0] <= SECONDS and spent <= SECONDS:
        before, last = images, found
        images = min(images * (4 if 4 * found[0] <= SECONDS else 2), whole)
        found = cost(images)
        slope = np.maximum((found - last) / (images - before), 0)
        spent += found[0]
    return found + slope * (whole - images)


def _typical(steps: Iterator[object], device: torch.device, ranks: Ranks) -> float:
    """Seconds of a step: the median of some after the slow first one, or the first if that takes long.

    Every rank measures the same times, those of the slowest, so that all of them stop after the same step.
    """
    times: list[float] = []
    started = clock()
    for _ in steps:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(ranks.largest(round(1e6 * (clock() - started))) / 1e6)
        if times[0] > LONG or sum(times[1:]) >= SECONDS / 2 or len(times) > REPEATS:
            break
        started = clock()
    return statistics.median(times[1:] or times)


def main() -> None:
    devices.reuse_memory()
    settings = config.load()
    device = devices.resolve(settings.device)
    with distributed.joined(device):
        ranks = distributed.current()
        found = measure(settings, device, ranks)
        if ranks.main:
            write_json(Path(os.environ[RESULT]), asdict(expected(settings, found, estimate.train_images(settings))))


if __name__ == "__main__":
    sys.exit(exit_code(main))
