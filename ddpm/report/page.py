"""The page of ``ddpm report``: the current model, and the arms that it is compared with.

If something is missing, the page says how to get it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import cache, partial
from pathlib import Path

from ddpm.base.errors import UserError
from ddpm.base.paths import PROCESSED
from ddpm.data.processed import open_split
from ddpm.params import config
from ddpm.params.config import Config
from ddpm.report import chapters as of_model
from ddpm.report import convergence, judgement, render
from ddpm.report.blocks import Block, Chapter, Note, Strip, chapter
from ddpm.runs import library, run_images
from ddpm.runs.record import Record
from ddpm.sources.dataset import called
from ddpm.verdicts import comparison, pairing
from ddpm.verdicts.comparison import Judgement
from ddpm.verdicts.pairing import Arm


def write(out: Path, by: Sequence[str] = (), may_differ: Collection[str] = ()) -> None:
    """Write the page, with the arms of the params keys ``by``, in the format that the suffix of ``out`` names.

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
    images = called(working.data.dataset.name, working.data.source)
    title = f"{images} {working.data.shape.sides}: {working.model.name}"
    render.write(out, title, "ddpm report", chapters(working, compared))


def chapters(working: Config, compared: Sequence[Chapter]) -> list[Chapter]:
    """The page's chapters, in order: the answer, the pictures, then all else."""
    workspace = cache(library.workspace)

    def of(build: Callable[[Record], list[Block]]) -> Callable[[], list[Block]]:
        return lambda: build(workspace())

    return [
        *compared,
        chapter("Summary", of(partial(of_model.summarized, working))),
        chapter(
            "Samples of this model", of(_drawn), lambda: [Strip("real test images", open_split(PROCESSED, "test")[0])]
        ),
        chapter("Scores", of(of_model.scores)),
        chapter("Convergence", of(convergence.shown), of_model.loss),
        chapter("What scores notice", of_model.damages),
        chapter("Memorisation", of(of_model.memorisation)),
        chapter("Provenance", of(of_model.provenance)),
    ]


def _samples(verdicts: Judgement) -> Sequence[Block]:
    """The first images of each arm, drawn from the same noise."""
    shared = set.intersection(*(set(arm.runs) for arm in verdicts.arms))

    def strip(arm: Arm) -> list[Block]:
        return [Strip(arm.label, run_images.samples(arm.runs[min(shared)]))]

    return chapter("Samples", *(partial(strip, arm) for arm in verdicts.arms if shared)).blocks


def _drawn(run: Record) -> list[Block]:
    return [Strip(f"seed {run.seed}, the first of the set", run_images.samples(run))]
