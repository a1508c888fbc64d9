"""A few steps of the real training, sampling and scoring, on the real ranks.

Run as ``python -m ddpm.forecast.pilot PARAMS OUT`` by torchrun, for ``ddpm.forecast.estimate``.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import numpy as np
import psutil
import torch
from torch import nn

from ddpm.base.errors import exit_code
from ddpm.base.files import write_json
from ddpm.base.paths import REFERENCE
from ddpm.compute import devices, distributed
from ddpm.compute.distributed import ALONE, Ranks
from ddpm.forecast.estimate import IMAGES, Measured, manifest
from ddpm.model import build
from ddpm.model.model_file import Loaded
from ddpm.params import config
from ddpm.params.config import Config
from ddpm.sampling.generator import Generator
from ddpm.sampling.sample_params import Guidance, Sample
from ddpm.scoring import extractor
from ddpm.scoring.features import extract
from ddpm.scoring.reference import WEIGHTS
from ddpm.training.trainer import Trainer

SECONDS = 1.0  # a batch that takes half of this is large enough
LONG = 2.0  # seconds: if the first step takes longer, there is no second
REPEATS = 10  # of a step, at most
CLASSES = 10  # of images that are not here
clock = time.perf_counter


def measure(settings: Config, device: torch.device, ranks: Ranks = ALONE, start: float = 0.0) -> Measured:
    """Call it on every rank; all return the same ``step`` and ``memory``; of the others the main rank's count. start:
    seconds that this process took until it had imported everything."""
    training, whole = settings.training(), settings.train.batch_size
    labels = np.zeros(64, np.int64) if settings.model.classes else None
    pictures = np.random.default_rng(0).integers(0, 256, (64, *settings.data.shape), dtype=np.uint8)

    def cost(images: int) -> np.ndarray:
        options = settings.train.model_copy(update={"batch_size": images, "compile": False})
        trainer = Trainer(training.model_copy(update={"train": options}), pictures, device, ranks, labels)
        seconds = _typical((trainer.step(number) for number in count(1)), device, ranks)
        return np.array([seconds, ranks.largest(devices.peak_memory(device))])

    least = settings.train.accumulate * ranks.size
    step, memory = _grown(min(least, whole), whole, cost)  # Trainer refuses a batch below the least
    sample = settings.sample
    evaluation = bound = _evaluation(settings, sample, device)
    if settings.evaluate.likelihood.images:
        options = {"precision": "float32", "batch_size": settings.evaluate.batch_size, "guidance": Guidance()}
        bound = _evaluation(settings, sample.model_copy(update=options), device)
    feature, fit = _scoring(settings, device)
    described = devices.describe(device)
    return Measured(float(step), evaluation, bound, feature, fit, start, int(memory), ranks.size, described)


def _scoring(settings: Config, device: torch.device) -> tuple[float, float]:
    """Seconds for the features of one image, and for fitting those extractors that are fitted to the images.

    A pretrained one counts if its weights are here.
    """
    known, data = manifest(settings), settings.data
    classes, images = (len(known.classes), known.counts["train"]) if known else (CLASSES, IMAGES)
    whole = settings.evaluate.batch_size
    pictures = np.random.default_rng(0).integers(0, 256, (whole, *data.shape), dtype=np.uint8)
    feature = fit = 0.0
    for name in settings.evaluate.chosen(classes).extractors:
        chosen, weights = extractor.get(name), REFERENCE / name / WEIGHTS
        trial = chosen.trial(data.dataset.name, pictures, classes, images, device)
        if trial is None and not weights.exists():
            continue
        network = trial.network if trial else chosen.load(weights)

        def cost(images: int, network: nn.Module = network) -> np.ndarray:
            passes = (extract(network, pictures[:images], images, device) for _ in count())
            return np.array([_typical(passes, device, ALONE)])

        feature += float(_grown(1, whole, cost)[0]) / whole
        if trial and trial.steps:
            fit += trial.steps * _typical(trial.fit, device, ALONE)
    return feature, fit


def _evaluation(settings: Config, sample: Sample, device: torch.device) -> float:
    """Seconds for one image at one step of sampling as ``sample`` says."""
    # classes may be asked for by names, which only a trained model knows
    training, sample = settings.training(), sample.model_copy(update={"classes": None})
    network = build.network(training).to(device).eval().requires_grad_(False)
    generator = Generator.of(Loaded(network, training, {}), sample, device)

    def cost(images: int) -> np.ndarray:
        states = generator.trajectory(range(images), 0, settings.data.shape)
        next(states)  # x_T
        return np.array([_typical(states, device, ALONE)])

    whole = min(sample.batch_size, sample.count)
    return float(_grown(1, whole, cost)[0]) / whole


def _grown(least: int, whole: int, cost: Callable[[int], np.ndarray]) -> np.ndarray:
    """The cost of ``whole`` images, seconds first, from batches that grow as long as they are quick.

    Larger batches lie on the line through the last two: a step costs something by itself, and each image adds to it.
    If only one batch was tried, its seconds are taken as the cost of its images, and its memory as that of the step.
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

    Every rank returns the same times, the slowest rank's, so that all of them stop after the same step.
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
    start = time.time() - psutil.Process().create_time()
    devices.reuse_memory()
    settings = config.load(Path(sys.argv[1]))
    device = devices.resolve(settings.device)
    with distributed.joined(device):
        ranks = distributed.current()
        found = measure(settings, device, ranks, start)
        if ranks.main:
            write_json(Path(sys.argv[2]), found._asdict())


if __name__ == "__main__":
    sys.exit(exit_code(main))
