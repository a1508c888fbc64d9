"""The time and memory that a run needs, before it starts, from a few steps of the real work.

They are measured in this process, on one rank's share of a batch; the exchange between ranks comes on top.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import NamedTuple

import numpy as np
import torch

from ddpm.base.errors import UserError
from ddpm.base.paths import PROCESSED, REFERENCE
from ddpm.base.progress import duration
from ddpm.compute import devices, distributed
from ddpm.compute.distributed import ALONE
from ddpm.data.processed import read_manifest
from ddpm.model import build
from ddpm.model.model_file import Loaded
from ddpm.params.config import Config
from ddpm.sampling.generator import Generator
from ddpm.sampling.sample_params import Guidance, Sample
from ddpm.scoring import extractor
from ddpm.scoring.features import extract
from ddpm.scoring.reference import WEIGHTS
from ddpm.tracking import previews
from ddpm.training.trainer import Trainer

# seconds that a stage takes that has next to nothing to do: imports, digests of its inputs, films, pictures, MLflow,
# and DVC's own share (docs/speed.md says on what)
START = {
    "check": 2.5, "download": 2.2, "preprocess": 2.5, "reference": 4.2, "train": 7.8, "sample": 5.6, "evaluate": 7.3,
}  # fmt: skip
SHARED = ("download", "preprocess", "reference")  # stages that all models of a dataset have in common
IMAGES = 1000  # to train on, as long as they are not here
SECONDS = 1.0  # a batch that takes half of this is large enough
LONG = 2.0  # seconds: if the first step takes longer, there is no second
REPEATS = 10  # of a step, at most
clock = time.perf_counter


class Measured(NamedTuple):
    """Seconds on one rank, and what they were measured on."""

    step: float  # of a training step
    evaluation: float  # of the network and the sampler, for one image at one step
    bound: float  # the same in full float32, as for the likelihood
    feature: float  # of the extractors whose weights are here, for one image
    memory: int  # bytes per rank in training
    ranks: int
    device: str  # its name, for a person


def lines(config: Config, measured: Measured, images: int | None) -> list[str]:
    """What each stage of a run needs, for a person: a line about each that computes, and one about all of them."""
    took, likelihood = seconds(config, measured, images), config.evaluate.likelihood.images
    known = images or config.train.steps
    training = f"{length(config, images)[0]:,} steps take" if known else f"an epoch of {IMAGES:,} images takes"
    bounded = f" and the likelihood of {likelihood:,} images of each split" * bool(likelihood)
    about = {
        "reference": "the features of real images take {}, without fitting extractors",
        "train": f"{training} {{}} on {measured.device}, and {measured.memory / 2**30:.1f} GiB of memory",
        "sample": f"{config.sample.count * sets(config, images):,} images take {{}}",
        "evaluate": f"scores{bounded} take {{}}",
    }
    texts = [f"{stage}: {text.format(f'about {duration(took[stage])}')}" for stage, text in about.items()]
    return [*texts, f"all stages, from nothing: about {duration(sum(took.values()))}, without a download"]


def seconds(config: Config, measured: Measured, images: int | None) -> dict[str, float]:
    """Seconds of each stage, without what it takes to download and prepare images.

    images: in the train split, None if not known yet: training then takes the steps that ``length`` returns.
    """
    sample, likelihood, data = config.sample, config.evaluate.likelihood, config.data
    steps, grids = length(config, images)
    preview = math.ceil(previews.IMAGES / measured.ranks) * min(previews.STEPS, config.diffusion.T)
    drawn = sample.count * sets(config, images)
    train = images or IMAGES
    test = train * data.test_fraction / (1 - data.test_fraction)
    bounded = [min(likelihood.images, split) for split in (train, test)]
    bounds = sum(bounded) * likelihood.timesteps
    work = {
        "reference": (train + test) * measured.feature / measured.ranks,
        "train": steps * measured.step + grids * preview * measured.evaluation,
        "sample": drawn * sample.steps * measured.evaluation / measured.ranks,
        "evaluate": (drawn * measured.feature + bounds * measured.bound) / measured.ranks,
    }
    return {stage: start + work.get(stage, 0.0) for stage, start in START.items()}


def length(config: Config, images: int | None) -> tuple[int, int]:
    """How many steps a training on so many images takes, and how many grids it draws.

    If the number of images is not known, it is that of ``train.steps`` or of one epoch of a thousand images.
    """
    options = config.train
    epoch = (images or IMAGES) / options.batch_size
    epochs = options.epochs if options.epochs and images else 1
    steps = options.steps or math.ceil(epochs * epoch)
    return steps, len(previews.steps(options, steps, epoch))


def sets(config: Config, images: int | None) -> int:
    """How many sets of samples are drawn: as many from each snapshot as from the model."""
    return len(config.sample.seeds) * (1 + len(config.train.earlier(length(config, images)[0])))


def train_images(config: Config) -> int | None:
    """The number of images to train on; None before they are prepared."""
    try:
        manifest = read_manifest(PROCESSED)
    except UserError:
        return None
    return manifest.counts["train"] if manifest.dataset == config.data.dataset.name else None


def measure(config: Config) -> Measured:
    """Time a few steps of training, sampling and scoring. Raises UserError like training and sampling."""
    training, device = config.training(), devices.resolve(config.device)
    ranks = distributed.processes(config.launch.processes, config.device)
    labels = np.zeros(64, np.int64) if config.model.classes else None
    pictures = np.random.default_rng(0).integers(0, 256, (64, *config.data.shape), dtype=np.uint8)

    def cost(images: int) -> np.ndarray:
        options = config.train.model_copy(update={"batch_size": images, "compile": False})
        trainer = Trainer(training.model_copy(update={"train": options}), pictures, device, ALONE, labels)
        seconds = _typical((trainer.step(number) for number in count(1)), device)
        return np.array([seconds, devices.peak_memory(device)])

    whole = max(config.train.accumulate, config.train.batch_size // ranks)
    step, memory = _grown(config.train.accumulate, whole, cost)  # Trainer refuses a smaller batch
    sample = config.sample
    evaluation = bound = _evaluation(config, sample, device)
    if config.evaluate.likelihood.images:
        options = {"precision": "float32", "batch_size": config.evaluate.batch_size, "guidance": Guidance()}
        bound = _evaluation(config, sample.model_copy(update=options), device)
    feature = _features(config, device)
    return Measured(float(step), evaluation, bound, feature, int(memory), ranks, devices.processor(device))


def _features(config: Config, device: torch.device) -> float:
    """Seconds for the features of one image by each extractor whose weights are here."""
    whole = config.evaluate.batch_size
    pictures = np.random.default_rng(0).integers(0, 256, (whole, *config.data.shape), dtype=np.uint8)
    total = 0.0
    for path in REFERENCE.glob(f"*/{WEIGHTS}"):
        network = extractor.get(path.parent.name).load(path)

        def cost(images: int, network: torch.nn.Module = network) -> np.ndarray:
            passes = (extract(network, pictures[:images], images, device) for _ in count())
            return np.array([_typical(passes, device)])

        total += float(_grown(1, whole, cost)[0]) / whole
    return total


def _evaluation(config: Config, sample: Sample, device: torch.device) -> float:
    """Seconds for one image at one step of sampling as ``sample`` says."""
    # classes may be asked for by names, which only a trained model knows
    training, sample = config.training(), sample.model_copy(update={"classes": None})
    network = build.network(training).to(device).eval().requires_grad_(False)
    generator = Generator.of(Loaded(network, training, {}), sample, device)

    def cost(images: int) -> np.ndarray:
        states = generator.trajectory(range(images), 0, config.data.shape)
        next(states)  # x_T
        return np.array([_typical(states, device)])

    whole = min(sample.batch_size, sample.count)
    return float(_grown(1, whole, cost)[0]) / whole


def _grown(least: int, whole: int, cost: Callable[[int], np.ndarray]) -> np.ndarray:
    """The cost of ``whole`` images, seconds first, from batches that grow as long as they are quick.

    Larger batches lie on the line through the last two: a step costs something by itself, and each image adds to it.
    If only one batch was tried, its seconds are taken as the cost of its images, and its memory as that of the step.
    """
    images, last = least, cost(least)
    slope, spent = np.zeros_like(last), last[0]
    slope[0] = last[0] / images
    while images < whole and 2 * last[0] <= SECONDS and spent <= SECONDS:
        fewer, before = images, last
        images = min(images * (4 if 4 * last[0] <= SECONDS else 2), whole)
        last = cost(images)
        slope = np.maximum((last - before) / (images - fewer), 0)
        spent += last[0]
    return last + slope * (whole - images)


def _typical(steps: Iterator[object], device: torch.device) -> float:
    """Seconds of a step: the median of some after the slow first one, or the first if that takes long."""
    times: list[float] = []
    started = clock()
    for _ in steps:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(clock() - started)
        if times[0] > LONG or sum(times[1:]) >= SECONDS / 2 or len(times) > REPEATS:
            break
        started = clock()
    return statistics.median(times[1:] or times)
