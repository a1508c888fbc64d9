"""What the next run takes, before it starts: time and memory. ``ddpm.forecast.pilot`` measures them."""

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
    """Seconds of training and sampling, bytes of memory that training takes of each rank, and on what they run.

    steps: of training; None where nobody knows yet of how many images ``train.epochs`` are: ``train`` is then what one
    epoch of a thousand takes.
    """

    steps: int | None
    train: float
    sample: float
    memory: int
    device: str


def report(settings: Config) -> list[str]:
    """What is about to run and what it takes, for a person. Raises UserError as training and sampling would."""
    from dvc.exceptions import DvcException

    try:
        changed = outdated()
    except DvcException as error:  # it is at work, say
        return [f"no forecast, for DVC does not say what is up to date: {error}"]
    if not changed:
        return ["train, sample: up to date"]
    train, sample = lines(settings, ask_pilot(settings))
    return ["train:  up to date" if changed == {"sample"} else train, sample]


def outdated() -> set[str]:
    """Of sampling and the stages before it, those that `dvc repro` would run, as far as is known before the first runs.

    Raises DvcException.
    """
    from dvc.repo import Repo

    with Repo() as repo:
        return set(repo.status(targets=["sample"], with_deps=True))


def lines(settings: Config, found: Forecast) -> tuple[str, str]:
    """Of training, and of sampling."""
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
            raise UserError(f"the pilot ended with exit code {code}; `ddpm check --no-pilot` does without")
        return Forecast(**read_json(path))


def grids_drawn(options: Train, steps: float, per_epoch: float) -> int:
    """How many grids so many steps of training draw; ``per_epoch`` is how many an epoch has."""
    length = steps if options.grid_unit == "steps" else steps / per_epoch
    return int(length // options.grid_every) if options.grid_every else 0


def train_images(settings: Config) -> int | None:
    """How many images there are to train on; None before they are here."""
    try:
        made = read_manifest(PROCESSED)
    except UserError:
        return None
    return made.counts["train"] if made.dataset == settings.data.dataset.name else None
