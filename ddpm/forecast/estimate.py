"""The time and memory that the next run needs, before it starts; ``ddpm.forecast.pilot`` measures them."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from ddpm.base.errors import UserError
from ddpm.base.files import read_json
from ddpm.base.paths import PROCESSED
from ddpm.base.progress import duration
from ddpm.compute import distributed
from ddpm.data.processed import read_manifest
from ddpm.params.config import Config
from ddpm.training.settings import Train

RESULT = "DDPM_PILOT"  # environment variable: the file that the pilot writes


@dataclass(frozen=True)
class Forecast:
    """Seconds of training and sampling, bytes of memory that each rank needs for training, and the device they run on.

    steps: of training; None with ``train.epochs`` if the number of images is not known yet: ``train`` is then the time
    of one epoch of a thousand.
    """

    steps: int | None
    train: float
    sample: float
    memory: int
    device: str


def report(settings: Config) -> list[str]:
    """What is about to run and what it needs, for a person. Raises UserError as training and sampling would."""
    from dvc.exceptions import DvcException

    try:
        changed = outdated()
    except DvcException as error:  # it may be running
        return [f"no forecast, because DVC does not say what is up to date: {error}"]
    if not changed:
        return ["train, sample: up to date"]
    train, sample = lines(settings, ask_pilot(settings))
    return ["train:  up to date" if changed == {"sample"} else train, sample]


def outdated() -> set[str]:
    """Which stages, up to sampling, `dvc repro` would run, as far as is known before the first one runs.

    Raises DvcException.
    """
    from dvc.repo import Repo

    with Repo() as repo:
        return set(repo.status(targets=["sample"], with_deps=True))


def lines(settings: Config, found: Forecast) -> tuple[str, str]:
    """One line about training, one about sampling."""
    length = f"{found.steps:,} steps take" if found.steps else "an epoch of 1,000 images takes"
    images = settings.sample.count * len(settings.sample.seeds)
    takes = f"{duration(found.train)} on {found.device}, and {found.memory / 2**30:.1f} GiB of memory"
    return (
        f"train:  {length} about {takes}",
        f"sample: {images:,} images take about {duration(found.sample)}",
    )


def ask_pilot(settings: Config) -> Forecast:
    """Run it on the ranks of the real run."""
    count = distributed.processes(settings.launch.processes, settings.device)
    with TemporaryDirectory(prefix="ddpm-pilot-") as folder:
        path = Path(folder) / "forecast.json"
        os.environ[RESULT] = str(path)
        code = distributed.launch(["-m", "ddpm.forecast.pilot"], count, "")
        if code == 128 + signal.SIGINT:
            raise KeyboardInterrupt
        if code:
            raise UserError(f"the pilot ended with exit code {code}; `ddpm check --no-pilot` skips it")
        return Forecast(**read_json(path))


def grids_drawn(options: Train, steps: float, per_epoch: float) -> int:
    """How many grids a training of ``steps`` draws; ``per_epoch``: steps in an epoch."""
    length = steps if options.grid_unit == "steps" else steps / per_epoch
    return int(length // options.grid_every) if options.grid_every else 0


def train_images(settings: Config) -> int | None:
    """How many images there are to train on; None before they are prepared."""
    try:
        made = read_manifest(PROCESSED)
    except UserError:
        return None
    return made.counts["train"] if made.dataset == settings.data.dataset.name else None
