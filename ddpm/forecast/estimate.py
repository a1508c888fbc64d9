"""The time and memory that the next run needs, before it starts; ``ddpm.forecast.pilot`` measures them."""

from __future__ import annotations

import math
import signal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from ddpm.base.errors import UserError
from ddpm.base.files import read_json
from ddpm.base.paths import PROCESSED
from ddpm.base.progress import duration
from ddpm.compute import distributed
from ddpm.data.processed import read_manifest
from ddpm.params.config import Config
from ddpm.tracking import previews


class Measured(NamedTuple):
    """step: seconds of a training step. evaluation: seconds of the network and the sampler for one image at one step,
    on one rank. memory: bytes per rank in training. ranks: how many; device: its name, for a person."""

    step: float
    evaluation: float
    memory: int
    ranks: int
    device: str


def report(settings: Config) -> list[str]:
    """What is about to run and what it needs, for a person. Raises UserError like training and sampling."""
    from dvc.exceptions import DvcException

    try:
        changed = outdated()
    except DvcException as error:  # it may be running
        return [f"no forecast, because DVC does not say what is up to date: {error}"]
    if not changed:
        return ["train, sample: up to date"]
    train, sample = lines(settings, ask_pilot(settings), train_images(settings))
    return ["train:  up to date" if changed == {"sample"} else train, sample]


def outdated() -> set[str]:
    """The stages, up to sampling, that `dvc repro` would run, as far as is known before the first one runs.

    Raises DvcException.
    """
    from dvc.repo import Repo

    with Repo() as repo:
        return set(repo.status(targets=["sample"], with_deps=True))


def lines(settings: Config, found: Measured, images: int | None) -> tuple[str, str]:
    """One line about training, one about sampling."""
    train, sample = seconds(settings, found, images)
    known = images or settings.train.steps
    what = f"{length(settings, images)[0]:,} steps take" if known else "an epoch of 1,000 images takes"
    drawn = settings.sample.count * sets(settings, images)
    return (
        f"train:  {what} about {duration(train)} on {found.device}, and {found.memory / 2**30:.1f} GiB of memory",
        f"sample: {drawn:,} images take about {duration(sample)}",
    )


def seconds(settings: Config, found: Measured, images: int | None) -> tuple[float, float]:
    """Seconds of training and of sampling: all steps, previews and images, without checkpoints and the slow first
    steps. images: in the train split, None if not known yet: training then takes the steps that ``length`` returns."""
    sample = settings.sample
    steps, grids = length(settings, images)
    preview = math.ceil(previews.IMAGES / found.ranks) * min(previews.STEPS, settings.diffusion.T) * found.evaluation
    drawn = sample.count * sets(settings, images) / found.ranks
    return steps * found.step + grids * preview, drawn * sample.steps * found.evaluation


def ask_pilot(settings: Config) -> Measured:
    """Run the pilot on the ranks of the real run."""
    count = distributed.processes(settings.launch.processes, settings.device)
    with TemporaryDirectory(prefix="ddpm-pilot-") as folder:
        path = Path(folder) / "measured.json"
        code = distributed.launch(["-m", "ddpm.forecast.pilot", str(path)], count, "")
        if code == 128 + signal.SIGINT:
            raise KeyboardInterrupt
        if code:
            raise UserError(f"the pilot ended with exit code {code}; `ddpm check --no-pilot` skips it")
        return Measured(**read_json(path))


def length(settings: Config, images: int | None) -> tuple[int, int]:
    """How many steps a training on so many images takes, and how many grids it draws.

    If the number of images is not known: as for ``train.steps``, or else for one epoch of a thousand images.
    """
    options = settings.train
    epoch = (images or 1000) / options.batch_size
    epochs = options.epochs if options.epochs and images else 1
    steps = options.steps or math.ceil(epochs * epoch)
    return steps, len(previews.steps(options, steps, epoch))


def sets(settings: Config, images: int | None) -> int:
    """How many sets of samples are drawn: as many from each snapshot as from the model."""
    return len(settings.sample.seeds) * (1 + len(settings.train.earlier(length(settings, images)[0])))


def train_images(settings: Config) -> int | None:
    """The number of images to train on; None before they are prepared."""
    try:
        made = read_manifest(PROCESSED)
    except UserError:
        return None
    return made.counts["train"] if made.dataset == settings.data.dataset.name else None
