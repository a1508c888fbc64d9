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
from ddpm.data.processed import Manifest, read_manifest
from ddpm.params.config import Config
from ddpm.scoring.calibration import SPOILING
from ddpm.tracking import previews

# what a stage takes that has next to nothing to do, in starts of the pilot: imports, digests of its inputs, films,
# pictures, MLflow, and DVC's own share (docs/speed.md has the measurement)
START = {
    "check": 0.9, "download": 0.8, "preprocess": 0.9, "reference": 1.5, "train": 2.8, "sample": 2.0, "evaluate": 2.6,
}  # fmt: skip
BEFORE = {  # stage -> those whose results it reads
    "preprocess": {"download"}, "reference": {"preprocess"}, "train": {"preprocess"}, "sample": {"train"},
    "evaluate": {"reference", "sample"},
}  # fmt: skip
SHARED = ("download", "preprocess", "reference")  # stages that all models of a dataset have in common
ODE = 3  # evaluations that one with its derivative takes as long as
IMAGES = 1000  # to train on, as long as they are not here


class Measured(NamedTuple):
    """Seconds on one rank, and what they were measured on.

    step: of a training step. evaluation: of the network and the sampler for one image at one step; bound: the same in
    full float32, as for the likelihood. feature: of all extractors for one image. fit: of fitting extractors. start: of
    a process, until it has imported what it needs. memory: bytes per rank in training. ranks: how many. device: its
    name, for a person.
    """

    step: float
    evaluation: float
    bound: float
    feature: float
    fit: float
    start: float
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
    return lines(settings, ask_pilot(settings), train_images(settings), changed) if changed else ["all is up to date"]


def outdated() -> set[str]:
    """The stages that `dvc repro` would run, as far as is known before the first one runs. Raises DvcException."""
    from dvc.repo import Repo

    with Repo() as repo:
        changed = START.keys() & repo.status(targets=["evaluate"], with_deps=True).keys()
    for stage, before in BEFORE.items():
        if changed & before:
            changed.add(stage)
    return changed


def lines(settings: Config, found: Measured, images: int | None, stages: set[str]) -> list[str]:
    """A line about each of the ``stages`` that computes, and one about all of them."""
    took, likelihood = seconds(settings, found, images), settings.evaluate.likelihood.images
    known = images or settings.train.steps
    training = f"{length(settings, images)[0]:,} steps take" if known else f"an epoch of {IMAGES:,} images takes"
    bounded = f" and the likelihood of {likelihood:,} images of each split" * bool(likelihood)
    about = {
        "reference": "the extractors and their features of real images take {}",
        "train": f"{training} {{}} on {found.device}, and {found.memory / 2**30:.1f} GiB of memory",
        "sample": f"{settings.sample.count * sets(settings, images):,} images take {{}}",
        "evaluate": f"scores{bounded} take {{}}",
    }
    times = {stage: f"about {duration(took[stage])}" for stage in about}
    shown = [f"{stage}: {text.format(times[stage])}" for stage, text in about.items() if stage in stages]
    whole = sum(took[stage] for stage in stages)
    return [*shown, f"in all: about {duration(whole)}, with the start of {len(stages)} stages, without a download"]


def seconds(settings: Config, found: Measured, images: int | None) -> dict[str, float]:
    """Seconds of each stage, without what it takes to download and prepare images.

    images: in the train split, None if not known yet: training then takes the steps that ``length`` returns.
    """
    sample, likelihood, data = settings.sample, settings.evaluate.likelihood, settings.data
    steps, grids = length(settings, images)
    preview = math.ceil(previews.IMAGES / found.ranks) * min(previews.STEPS, settings.diffusion.T) * found.evaluation
    drawn = sample.count * sets(settings, images)
    train = images or IMAGES
    test = train * data.test_fraction / (1 - data.test_fraction)
    spoiled = test * sum(len(levels) for _, levels in SPOILING.values())
    bounded = [min(likelihood.images, split) for split in (train, test)]
    ode = 2 * ODE * bounded[1] * likelihood.ode_steps
    work = {
        "reference": found.fit + (train + test + spoiled) * found.feature / found.ranks,
        "train": steps * found.step + grids * preview,
        "sample": drawn * sample.steps * found.evaluation / found.ranks,
        "evaluate": (drawn * found.feature + (sum(bounded) * likelihood.timesteps + ode) * found.bound) / found.ranks,
    }
    return {stage: START[stage] * found.start + work.get(stage, 0.0) for stage in START}


def ask_pilot(settings: Config) -> Measured:
    """Run the pilot on the ranks of the real run."""
    count = distributed.processes(settings.launch.processes, settings.device)
    with TemporaryDirectory(prefix="ddpm-pilot-") as folder:
        params, path = Path(folder) / "params.yaml", Path(folder) / "measured.json"
        params.write_text(settings.model_dump_json(serialize_as_any=True))
        code = distributed.launch(["-m", "ddpm.forecast.pilot", str(params), str(path)], count, "")
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
    epoch = (images or IMAGES) / options.batch_size
    epochs = options.epochs if options.epochs and images else 1
    steps = options.steps or math.ceil(epochs * epoch)
    return steps, len(previews.steps(options, steps, epoch))


def sets(settings: Config, images: int | None) -> int:
    """How many sets of samples are drawn: as many from each snapshot as from the model."""
    return len(settings.sample.seeds) * (1 + len(settings.train.earlier(length(settings, images)[0])))


def train_images(settings: Config) -> int | None:
    """The number of images to train on; None before they are prepared."""
    made = manifest(settings)
    return made.counts["train"] if made else None


def manifest(settings: Config) -> Manifest | None:
    """That of the dataset; None before it is prepared."""
    try:
        made = read_manifest(PROCESSED)
    except UserError:
        return None
    return made if made.dataset == settings.data.dataset.name else None
