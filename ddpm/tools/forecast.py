"""The time and memory that a run needs, before it starts, from one timed step of training.

It is measured in this process, on one rank's share of a batch; the exchange between ranks comes on top.
"""

import math
import time
from typing import NamedTuple

import numpy as np
import torch

from ddpm.base.progress import duration
from ddpm.compute import devices, distributed
from ddpm.compute.distributed import ALONE
from ddpm.params.config import Config
from ddpm.sampling.guidance import evaluations
from ddpm.training import student
from ddpm.training.trainer import Trainer

# seconds that all stages take that have next to nothing to do: imports, digests of their inputs, films, pictures,
# MLflow, and DVC's own share (docs/speed.md says on what)
START = 32.0
IMAGES = 1000  # to train on, as long as they are not here
LONG = 10.0  # seconds: if the first step takes longer, there is no second
STEPS = 4.0  # of sampling that an image takes in the time of one of training: by operations 3, measured up to 4.6
clock = time.perf_counter


class Measured(NamedTuple):
    """Seconds of a training step with all ranks at work, the bytes that a rank held at most, and on what device."""

    step: float
    memory: int
    device: str  # its name, for a person


def lines(config: Config, measured: Measured, images: int | None) -> list[str]:
    """The time and memory of a run, for a person. images: in the train split, None if not known yet."""
    length, count, train, sample = predict(config, measured, images)
    memory = f"{measured.memory / 2**30:.1f} GiB of memory"
    assumed = "" if images or config.train.steps else f", if there are {IMAGES:,} images to train on"
    if student.compiles(config.train, devices.resolve(config.device)):
        assumed += ", measured without train.compile"
    return [
        f"train: {length:,} steps take about {duration(train)} on {measured.device}{assumed}, and at least {memory}",
        f"sample: {count:,} images take about {duration(sample)}",
        f"all stages, from nothing: about {duration(START + train + sample)}, and what downloads and scores take",
    ]


def predict(config: Config, measured: Measured, images: int | None) -> tuple[int, int, float, float]:
    """The steps of a training on ``images`` images, or on IMAGES; how many samples are drawn, as many from each
    snapshot as from the model; and the seconds of both."""
    train, sample = config.train, config.sample
    length = train.steps or math.ceil((train.epochs or 1) * (images or IMAGES) / train.batch_size)
    count = sample.count * len(sample.seeds) * (1 + len(train.earlier(length)))
    each = evaluations(sample, config.diffusion) * measured.step / train.batch_size / STEPS
    return length, count, length * measured.step, count * each


def time_step(config: Config) -> Measured:
    """Time a step of training, after a first one, which is slow. Raises UserError like training."""
    device, ranks = devices.resolve(config.device), distributed.processes(config.launch.processes, config.device)
    share = max(config.train.accumulate, config.train.batch_size // ranks)
    options = config.train.model_copy(update={"batch_size": share, "compile": False, "snapshots": ()})
    labels = np.zeros(64, np.int64) if config.model.classes else None
    pictures = np.random.default_rng(0).integers(0, 256, (64, *config.data.shape), dtype=np.uint8)
    trainer = Trainer(config.training().model_copy(update={"train": options}), pictures, device, ALONE, labels)
    taken = math.inf
    for number in (1, 2):
        begin = clock()
        trainer.step(number)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken = clock() - begin
        if taken > LONG:
            break
    return Measured(taken, devices.peak_memory(device), devices.processor(device))
