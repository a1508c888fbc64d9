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

from ddpm.base import variant
from ddpm.base.errors import UserError
from ddpm.base.paths import REFERENCE
from ddpm.base.progress import duration
from ddpm.compute import devices, distributed
from ddpm.compute.distributed import ALONE
from ddpm.model import build, precision
from ddpm.model.model_file import Loaded
from ddpm.model.precision import ALLOWED, Comparison
from ddpm.params.config import Config
from ddpm.sampling.generator import Generator
from ddpm.scoring import extractor
from ddpm.scoring.features import extract
from ddpm.scoring.reference import WEIGHTS, read_reference
from ddpm.training import student
from ddpm.training.trainer import Trainer

# seconds that a stage takes that has next to nothing to do: imports, digests of its inputs, films, pictures, MLflow,
# and DVC's own share (docs/speed.md says on what)
START = {
    "check": 2.5, "download": 2.2, "preprocess": 2.5, "reference": 4.2, "train": 7.8, "sample": 5.6, "evaluate": 7.3,
}  # fmt: skip
IMAGES = 1000  # to train on, as long as they are not here
SECONDS = 1.0  # a batch that takes half of this is large enough
LONG = 2.0  # seconds: if the first step takes longer, there is no second
REPEATS = 10  # of a step, at most
ROUNDS = 4  # passes in each precision
clock = time.perf_counter


class Measured(NamedTuple):
    """Seconds with all ranks at work, and what they were measured on."""

    step: float  # of a training step
    evaluation: float  # of the network and the sampler, for one image at one step
    feature: float  # of the extractors whose weights are here, for one image
    memory: int  # bytes that a rank held at most
    device: str  # its name, for a person
    half: Comparison | None = None  # of bfloat16, where the hardware computes in it and ``auto`` chooses


def lines(config: Config, measured: Measured, images: int | None) -> list[str]:
    """What each stage of a run needs, for a person: a line about each that computes, and one about all of them."""
    took, memory = seconds(config, measured, images), f"{measured.memory / 2**30:.1f} GiB of memory"
    assumed = "" if images or config.train.steps else f", if there are {IMAGES:,} images to train on"
    if student.compiles(config.train, devices.resolve(config.device)):
        assumed += ", measured without train.compile"
    about = {
        "reference": "the features of real images take {}, without fitting extractors",
        "train": f"{length(config, images):,} steps take {{}} on {measured.device}{assumed}, and at least {memory}",
        "sample": f"{count_samples(config, images):,} images take {{}}",
        "evaluate": "scores take {}",
    }
    texts = [f"{stage}: {text.format(f'about {duration(took[stage])}')}" for stage, text in about.items()]
    chosen = config.train.precision
    texts.append(f"precision: {_advice(measured.half) if chosen == 'auto' else chosen}")
    return [*texts, f"all stages, from nothing: about {duration(sum(took.values()))}, without a download"]


def seconds(config: Config, measured: Measured, images: int | None) -> dict[str, float]:
    """Seconds of each stage, without what it takes to download and prepare images.

    images: in the train split, None if not known yet.
    """
    likelihood, train = config.evaluate.likelihood, images or IMAGES
    both = train / (1 - config.data.test_fraction)
    bounds = sum(min(likelihood.images, split) for split in (train, both - train)) * likelihood.timesteps
    samples = count_samples(config, images)
    work = {
        "reference": both * measured.feature,
        "train": length(config, images) * measured.step,
        "sample": samples * config.sample.steps * measured.evaluation,
        "evaluate": samples * measured.feature + bounds * measured.evaluation,
    }
    return {stage: start + work.get(stage, 0.0) for stage, start in START.items()}


def length(config: Config, images: int | None) -> int:
    """How many steps a training on so many images takes; if they are not known, on IMAGES."""
    options = config.train
    return options.steps or math.ceil((options.epochs or 1) * (images or IMAGES) / options.batch_size)


def count_samples(config: Config, images: int | None) -> int:
    """How many samples are drawn: as many from each snapshot as from the model."""
    sample = config.sample
    return sample.count * len(sample.seeds) * (1 + len(config.train.earlier(length(config, images))))


def time_steps(config: Config) -> Measured:
    """Time a few steps of training, sampling and scoring. Raises UserError like training and sampling."""
    training, device = config.training(), devices.resolve(config.device)
    ranks = distributed.processes(config.launch.processes, config.device)
    labels = np.zeros(64, np.int64) if config.model.classes else None
    pictures = np.random.default_rng(0).integers(0, 256, (64, *config.data.shape), dtype=np.uint8)

    def cost(images: int) -> float:
        options = config.train.model_copy(update={"batch_size": images, "compile": False, "snapshots": ()})
        trainer = Trainer(training.model_copy(update={"train": options}), pictures, device, ALONE, labels)
        return _typical((trainer.step(number) for number in count(1)), device)

    whole = max(config.train.accumulate, config.train.batch_size // ranks)
    step = _grown(config.train.accumulate, whole, cost)  # Trainer refuses a smaller batch
    memory = devices.peak_memory(device)
    evaluation, feature = _evaluation(config, device), _features(config, device)
    images = max(precision.IMAGES, min(whole, int(whole * SECONDS / 2 / step)))  # a pass of about half a second
    is_open = config.train.precision == "auto" and devices.has_bfloat16(device)
    half = precision.compare(training, device, images, ROUNDS) if is_open else None
    return Measured(step, evaluation / ranks, feature / ranks, memory, devices.processor(device), half)


def _advice(half: Comparison | None) -> str:
    """Which precision to take."""
    if half is None:
        return "auto is float32, because this processor does not compute in bfloat16"
    if not half.error <= ALLOWED:
        return f"auto is float32, because bfloat16's gradients are wrong here by {half.error:.0%} of float32's"
    slower = "; train.precision: float32 is faster" if half.times > 1 else ""
    return (
        f"auto is bfloat16, whose gradients differ by up to {half.error:.1%} from float32's, and a pass takes "
        f"{half.times:.2f} of its time{slower}"
    )


def _features(config: Config, device: torch.device) -> float:
    """Seconds for the features of one image by each extractor whose weights, for so many channels, are here."""
    try:
        here = read_reference(REFERENCE).channels == config.data.channels
    except UserError:
        here = False
    whole = config.evaluate.batch_size
    pictures = np.random.default_rng(0).integers(0, 256, (whole, *config.data.shape), dtype=np.uint8)
    total = 0.0
    for name in variant.names("extractors") if here else ():
        if not (path := REFERENCE / name / WEIGHTS).exists():
            continue
        network = extractor.get(name).load(path)

        def cost(images: int, network: torch.nn.Module = network) -> float:
            return _typical((extract(network, pictures[:images], images, device) for _ in count()), device)

        total += _grown(1, whole, cost) / whole
    return total


def _evaluation(config: Config, device: torch.device) -> float:
    """Seconds for one image at one step of sampling."""
    # classes may be asked for by names, which only a trained model knows
    training, sample = config.training(), config.sample.model_copy(update={"classes": None, "compile": False})
    network = build.network(training).to(device).eval().requires_grad_(False)
    generator = Generator.of(Loaded(network, training, {}), sample, device)

    def cost(images: int) -> float:
        states = generator.trajectory(range(images), 0)
        next(states)  # x_T
        return _typical(states, device)

    whole = min(sample.batch_size, sample.count)
    return _grown(1, whole, cost) / whole


def _grown(least: int, whole: int, cost: Callable[[int], float]) -> float:
    """The seconds of ``whole`` images, from batches that grow as long as they are quick.

    Larger batches lie on the line through the last two: a step has a fixed cost, and each image adds to it. If
    only one batch was tried, its seconds are taken as the cost of its images.
    """
    images, last = least, cost(least)
    slope, spent = last / images, last
    while images < whole and 2 * last <= SECONDS and spent <= SECONDS:
        fewer, before = images, last
        images = min(images * (4 if 4 * last <= SECONDS else 2), whole)
        last = cost(images)
        slope = max((last - before) / (images - fewer), 0.0)
        spent += last
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
