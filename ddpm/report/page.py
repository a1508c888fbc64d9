"""The page of ``ddpm report``: the current model, and the variants that it is compared with.

If something is missing, the page says how to get it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path

from ddpm.base.paths import PROCESSED
from ddpm.data.processed import called
from ddpm.params import config
from ddpm.params.config import Config
from ddpm.report import chapters as of_model
from ddpm.report import compared, convergence, render
from ddpm.report.blocks import Block, Chapter, chapter
from ddpm.report.compared import Compared
from ddpm.runs import library
from ddpm.runs.record import Record


def write(out: Path, by: Sequence[str] = (), may_differ: Collection[str] = ()) -> None:
    """Write the page, with the variants of the params keys ``by``.

    Raises UserError if params.yaml can't be read, no run has such a key, or ``out`` can't be written.
    """
    working = config.load()
    arms = Compared.read(working, by, may_differ)
    render.write_html(out, _title(working), "ddpm report", chapters(working, arms))


def chapters(working: Config, arms: Compared) -> list[Chapter]:
    """The page's chapters, in order: the answer, the pictures, then all else."""

    def of(build: Callable[[Record], list[Block]]) -> Callable[[], list[Block]]:
        return lambda: build(library.workspace())

    return [
        chapter("Summary", of(partial(of_model.summarized, working)), partial(compared.answers, arms)),
        chapter("Samples", partial(compared.samples, arms)),
        chapter("Scores", of(of_model.scores)),
        chapter("Verdict", partial(compared.verdict, arms)),
        chapter("Curves", partial(compared.curves, arms), of(of_model.extrapolation)),
        chapter("Convergence", of(convergence.shown)),
        chapter("Quality against cost", of_model.quality_against_cost),
        chapter("Calibration", of_model.calibration, of_model.damages),
        chapter("Memorisation", of(of_model.memorisation)),
        chapter("Provenance", of(of_model.provenance)),
    ]


def _title(working: Config) -> str:
    data, diffusion, sample = working.data, working.diffusion, working.sample
    return (
        f"{called(data, PROCESSED)} {data.shape.sides}: {working.model.name}, "
        f"{diffusion.schedule.name}, {diffusion.parameterization.name}, {sample.sampler.name} {sample.steps}"
    )
