"""A few steps of the real training and sampling, on the ranks that they will run on, and what follows for the whole.

Run as ``python -m ddpm.forecast.pilot`` by torchrun, for ``ddpm.forecast.estimate``.
"""

from __future__ import annotations

import math
import os
import resource
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
from ddpm.sampling.generator import FILM_IMAGES, Generator
from ddpm.tracking import previews
from ddpm.tracking.tracker import Tracker
from ddpm.training import memory
from ddpm.training.settings import TrainingConfig
from ddpm.training.trainer import Trainer

SECONDS = 1.0  # a batch that takes half of it is large enough
LONG = 2.0  # seconds: a first step that takes longer is the only one
MLFLOW = 160 * 2**20  # bytes that it takes of the main rank's memory
REPEATS = 10  # of a step, at most
clock = time.perf_counter


@dataclass(frozen=True)
class Measured:
    """batch_size: images of a step; step: its seconds. evaluation: seconds of the network and the sampler for one image
    at one step, on one rank. memory: bytes that all ranks take at most. ranks: how many."""

    batch_size: int
    step: float
    evaluation: float
    memory: int
    ranks: int


def expected(settings: Config, found: Measured, images: int | None) -> Forecast:
    """What so many steps, previews and images take; checkpoints and the first steps are left out.

    images: of the train split, None where they are not known.
    """
    options, sample = settings.train, settings.sample
    steps = options.steps
    if options.epochs and images:
        steps = math.ceil(options.epochs * images / found.batch_size)
    trained = steps or math.ceil(1000 / found.batch_size)
    pictures = estimate.grids_drawn(options, trained, (images or 1000) / found.batch_size)
    preview = math.ceil(previews.IMAGES / found.ranks) * min(previews.STEPS, settings.diffusion.T) * found.evaluation
    drawn = sample.count * len(sample.seeds) / found.ranks + min(FILM_IMAGES, sample.count)  # the film is one rank's
    return Forecast(
        steps=steps,
        train=trained * found.step + pictures * preview,
        sample=drawn * sample.steps * found.evaluation,
        memory=found.memory,
        ranks=found.ranks,
    )


def measure(settings: Config, device: torch.device, ranks: Ranks = ALONE) -> Measured:
    """On every rank; the result is the main one's."""
    training = settings.training()
    training = training.model_copy(update={"train": training.train.model_copy(update={"compile": False})})
    whole = memory.whole_batch(training, device, ranks)
    least = training.train.accumulate * ranks.size
    if whole < least:
        Trainer(training, _pictures(training), device, ranks)  # says what is wrong
    step, images = _step(training, whole, least, device, ranks)
    evaluation = _evaluation(settings, device)
    if device.type == "cuda":
        needed = ranks.size * memory.estimate(training, device).total(math.ceil(whole / least))
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        missing = (whole - images) / training.train.accumulate
        activations = memory.estimate(training, device).activations if missing else 0
        needed = int(ranks.gather(torch.tensor([peak]), ranks.size).sum()) + int(missing * activations)
        needed += 0 if Tracker().off else MLFLOW
    return Measured(whole, step, evaluation, needed, ranks.size)


def _step(training: TrainingConfig, whole: int, least: int, device: torch.device, ranks: Ranks) -> tuple[float, int]:
    """Seconds of a step of training on ``whole`` images, and how many the largest had that was made."""

    def seconds(images: int) -> float:
        options = training.train.model_copy(update={"batch_size": images})
        trainer = Trainer(training.model_copy(update={"train": options}), _pictures(training), device, ranks)
        return _typical((trainer.step(number) for number in count(1)), device, ranks)

    return _grown(least, whole, seconds)


def _evaluation(settings: Config, device: torch.device) -> float:
    """Seconds for one image at one step of sampling."""
    training, sample = settings.training(), settings.sample
    network = architecture.build(training).to(device).eval().requires_grad_(False)
    generator = Generator.of(Loaded(network, training, {}), sample, device)
    shape = (training.data.channels, training.data.image_size, training.data.image_size)

    def seconds(images: int) -> float:
        states = generator.trajectory(range(images), 0, shape)
        next(states)  # x_T
        return _typical(states, device, ALONE)

    whole = min(sample.batch_size, sample.count)
    return _grown(1, whole, seconds)[0] / whole


def _grown(least: int, whole: int, seconds: Callable[[int], float]) -> tuple[float, int]:
    """What ``whole`` images take, from batches that grow while they are quick; and the largest that was tried.

    The rest lies on the line through the last two: a step has a cost of its own, apart from that of its images.
    """
    images, taken = least, seconds(least)
    slope, spent = taken / images, taken
    while images < whole and 2 * taken <= SECONDS and spent <= SECONDS:
        before, took = images, taken
        images = min(images * (4 if 4 * taken <= SECONDS else 2), whole)
        taken = seconds(images)
        slope = max((taken - took) / (images - before), 0.0)
        spent += taken
    return taken + slope * (whole - images), images


def _typical(steps: Iterator[object], device: torch.device, ranks: Ranks) -> float:
    """Seconds of a step: the median of some after the first, which is slower, or the first where that takes long."""
    times = _times(steps, device, ranks)
    first = next(times)
    rest: list[float] = []
    while first <= LONG and sum(rest) < SECONDS / 2 and len(rest) < REPEATS and (found := next(times, None)):
        rest.append(found)
    return statistics.median(rest or [first])


def _times(steps: Iterator[object], device: torch.device, ranks: Ranks) -> Iterator[float]:
    """How long each step takes, the same on every rank, which then agree on what to do next."""
    while True:
        started = clock()
        try:
            next(steps)
        except StopIteration:
            return
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        yield ranks.largest(round(1e6 * (clock() - started))) / 1e6


def _pictures(training: TrainingConfig) -> np.ndarray:
    data = training.data
    shape = (64, data.channels, data.image_size, data.image_size)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


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
