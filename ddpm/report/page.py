"""The page of ``ddpm report``: the current model, and the arms that it is compared with.

If something is missing, the page says how to get it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddpm.base.errors import UserError
from ddpm.base.paths import LIKELIHOOD, LOSS, PROCESSED
from ddpm.data.processed import called, open_split
from ddpm.params import config
from ddpm.params.config import Config
from ddpm.pictures.plots import Panel
from ddpm.report import chapters as of_model
from ddpm.report import convergence, judgement, render
from ddpm.report.blocks import Block, Chapter, Figure, Note, Strip, attempted, chapter
from ddpm.runs import library, run_images
from ddpm.runs.record import Record
from ddpm.verdicts import comparison, pairing
from ddpm.verdicts.comparison import Judgement

BINS = 100  # points of a loss curve
BOUND = ("t", "vlb_test", "vlb_train", "mse_test", "mse_train")


def write(out: Path, by: Sequence[str] = (), may_differ: Collection[str] = ()) -> None:
    """Write the page, with the arms of the params keys ``by``.

    Raises UserError if params.yaml can't be read, no run has such a key, or ``out`` can't be written.
    """
    working = config.load()
    compared: list[Chapter] = []
    if by:
        listing = library.everywhere()
        pairing.check_keys(by, listing.records, working)
        try:
            verdicts = comparison.compare(listing, by, working, (), may_differ)
            compared = judgement.chapters(verdicts, _samples(verdicts))
        except UserError as error:
            compared = [Chapter("Verdicts", [Note(str(error), missing=True)])]
    title = f"{called(working.data, PROCESSED)} {working.data.shape.sides}: {working.model.name}"
    render.write_html(out, title, "ddpm report", chapters(working, compared))


def chapters(working: Config, compared: Sequence[Chapter]) -> list[Chapter]:
    """The page's chapters, in order: the answer, the pictures, then all else."""

    def of(build: Callable[[Record], list[Block]]) -> Callable[[], list[Block]]:
        return lambda: build(library.workspace())

    return [
        chapter("Summary", of(partial(of_model.summarized, working))),
        *compared,
        chapter(
            "Samples of this model", of(_drawn), lambda: [Strip("real test images", open_split(PROCESSED, "test")[0])]
        ),
        chapter("Scores", of(of_model.scores)),
        chapter("Curves", _loss, _bound, of(of_model.extrapolation)),
        chapter("Convergence", of(convergence.shown)),
        chapter("Quality against cost", of_model.quality_against_cost),
        chapter("What scores notice", of_model.damages),
        chapter("Memorisation", of(of_model.memorisation)),
        chapter("Provenance", of(of_model.provenance)),
    ]


def _samples(verdicts: Judgement) -> list[Block]:
    """The first images of each arm, drawn from the same noise."""
    shared = set.intersection(*(set(arm.runs) for arm in verdicts.arms))
    seed = min(shared, default=None)
    blocks: list[Block] = []
    for arm in verdicts.arms if seed is not None else ():
        blocks += attempted(lambda arm: [Strip(arm.label, run_images.samples(arm.runs[seed]))], arm)
    return blocks


def _drawn(run: Record) -> list[Block]:
    return [Strip(f"seed {run.seed}, the first of the set", run_images.samples(run))]


def _columns(path: Path, *names: str) -> NDArray[np.float64]:
    """(rows, names) of a CSV file. Raises UserError."""
    import pandas as pd

    try:
        return pd.read_csv(path)[list(names)].to_numpy(float)
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"{path}: no numbers in {', '.join(names)}; `dvc repro` makes it") from error


def _loss() -> Iterator[Block]:
    rows = _columns(LOSS, "step", "loss")
    curve = np.array([part.mean(0) for part in np.array_split(rows, min(BINS, len(rows)))])
    caption = f"Training loss, in at most {BINS} averages of successive rows."
    yield Figure(caption, [Panel("training loss", "step", "loss", {"loss": curve}, log="y")])


def _bound() -> Iterator[Block]:
    """Of the likelihood, by t. The last row is L_T, at T + 1, where there is nothing to denoise."""
    rows = _columns(LIKELIHOOD, *BOUND)[:-1]
    terms = {"test": rows[:, [0, 1]], "train": rows[:, [0, 2]]}
    errors = {"test": rows[:, [0, 3]], "train": rows[:, [0, 4]]}
    yield Figure(
        "The variational bound's terms by t; over all t, and with L_T, they add up to bits_per_dim.",
        [Panel("bound on the likelihood", "t", "bits per dimension, each step", terms, log="y")],
    )
    yield Figure(
        "On held-out and on train images: a gap between the two is overfitting.",
        [Panel("denoising error", "t", "mean squared error of epsilon", errors, log="y")],
    )
