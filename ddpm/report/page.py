"""The page of ``ddpm report``: the current model's scores, what they mean, what they cost, and how near its samples
come to train images. If a file is missing, the page says how to get it.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ddpm.base import errors, files
from ddpm.base.errors import UserError
from ddpm.base.paths import EVALUATION, LOSS, PROCESSED
from ddpm.data.processed import open_split
from ddpm.params import config, credit
from ddpm.params.config import Config
from ddpm.pictures import plots
from ddpm.pictures.plots import Panel
from ddpm.referee.pairing import images
from ddpm.report import live, render, summary
from ddpm.report.blocks import Block, Chapter, Figure, Note, Table, plain, strip
from ddpm.runs import library, run_images
from ddpm.runs.record import Record

NEAREST = EVALUATION / "nearest.png"
REMEDY = "`dvc pull` or `dvc repro` makes it"
POINTS = 100  # of the loss curve
HOW = "± is a standard error. The Gaussian is fitted to the train images. A Fréchet distance falls as images are added."


def write(out: Path) -> None:
    """Write the page in the format that the suffix of ``out`` names.

    Raises UserError if there is no record of a run or no params.yaml, or if ``out`` can't be written.
    """
    working, run = config.load(), library.workspace()
    title = f"{images(run)}: {run.params.get('model.name', run.name)}"
    render.write(out, title, "ddpm report", chapters(working, run))


def chapters(working: Config, run: Record) -> list[Chapter]:
    """The answer, the pictures, then all else."""
    return [
        Chapter("Summary", [summary.describe_training(run), *summary.findings(run), *_try(_check_record, working)]),
        Chapter("Samples", [*_try(_drawn, run), *_try(_real, working)]),
        Chapter("Scores", [*summary.scores(run), Note(HOW)]),
        Chapter("Training", _try(_loss)),
        Chapter("Memorisation", _nearest()),
        Chapter("Provenance", provenance(run)),
    ]


def _try(build: Callable[..., list[Block]], *values: Any) -> list[Block]:
    """The blocks, or the line of a UserError instead."""
    try:
        return build(*values)
    except UserError as error:
        return [Note(str(error), missing=True)]


def _check_record(working: Config) -> list[Block]:
    """Raises UserError if the record is of other params or code."""
    library.current(working)
    return []


def _drawn(run: Record) -> list[Block]:
    return [strip(f"drawn with seed {run.seed}, the first of the set", "samples", run_images.samples(run))]


def _real(working: Config) -> list[Block]:
    credit.refuse_other_params(working, "preprocess")
    return [strip("real test images", "real", open_split(PROCESSED, "test")[0])]


def _loss() -> list[Block]:
    """The training loss, in at most POINTS averages of successive rows."""
    try:
        pairs = np.genfromtxt(LOSS, delimiter=",", names=True, ndmin=1)[["step", "loss"]].tolist()
        curve = np.array([part.mean(0) for part in np.array_split(np.array(pairs), min(POINTS, len(pairs)))])
    except (OSError, ValueError) as error:
        raise UserError(f"{LOSS}: missing, or not a table of step and loss; {REMEDY}") from error
    panel = Panel("training loss", "step", "loss", {"loss": curve}, log="y")
    return [Figure(f"Training loss, in at most {POINTS} averages.", "loss", partial(plots.lines, panels=[panel]))]


def _nearest() -> list[Block]:
    caption = (
        "The samples nearest to a train image, the nearest first, with that image below: in pixels, then in each "
        "extractor's features."
    )
    return live.side_by_side({caption: NEAREST}, narrow=False) or [Note(f"{NEAREST}: missing; {REMEDY}", missing=True)]


def provenance(run: Record) -> list[Block]:
    """Which other scores these may be compared with, what made them, and every parameter."""
    made_by = {"finished": f"{run.finished:%Y-%m-%d %H:%M} UTC"} | run.costs.model_dump(mode="json") | run.environment
    return [
        Note(f"Scores may be compared where the fingerprint is the same: {run.fingerprint.hash}"),
        Table(("made by", ""), _rows(made_by), text_columns=(0, 1)),
        Table(("key", "value"), _rows(run.params), "Every parameter", (0, 1), folded=True),
    ]


def _rows(values: Mapping[str, object]) -> list[tuple[str, str]]:
    return [(key, errors.mask_secrets(plain(value))) for key, value in files.flatten(values).items()]
