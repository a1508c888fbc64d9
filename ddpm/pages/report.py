"""One self-contained HTML page about the current model and the variants it is compared with.

It opens from disk: pictures are inlined, there is no script, and its content policy forbids the page to fetch anything.
If something is missing, the page says how to get it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path

from ddpm.base.paths import PROCESSED
from ddpm.data.processed import called
from ddpm.pages import compared, model
from ddpm.pages.compared import Compared
from ddpm.params import config
from ddpm.params.config import Config
from ddpm.report import render
from ddpm.report.blocks import Chapter, chapter


def write(out: Path, by: Sequence[str] = (), may_differ: Collection[str] = ()) -> None:
    """Write the page, with the variants of the params keys ``by``.

    Raises UserError if params.yaml can't be read, no run has such a key, or ``out`` can't be written.
    """
    settings = config.load()
    found = Compared.read(settings, by, may_differ)
    render.write_html(out, _title(settings), "ddpm report", chapters(settings, found))


def write_study(out: Path, question: str, found: Compared) -> None:
    """Write the page of a study: its verdicts, and its variants side by side. Raises UserError if ``out`` can't be
    written."""
    shown = {
        "Answer": compared.answers,
        "Samples": compared.samples,
        "Verdict": compared.verdict,
        "Curves": compared.curves,
    }
    render.write_html(
        out, question, "ddpm study", [chapter(title, partial(part, found)) for title, part in shown.items()]
    )


def chapters(settings: Config, found: Compared) -> list[Chapter]:
    """The page's chapters, in order: the answer, the pictures, then all else."""
    summary = partial(model.summarized, settings), partial(compared.answers, found), model.staleness
    return [
        chapter("Summary", *summary),
        chapter("Samples", partial(compared.samples, found)),
        chapter("Scores", partial(model.scores, settings)),
        chapter("Verdict", partial(compared.verdict, found)),
        chapter("Curves", partial(compared.curves, found), model.extrapolation),
        chapter("Convergence", model.convergence),
        chapter("Quality against cost", model.quality_against_cost),
        chapter("Calibration", model.calibration, model.sanity),
        chapter("Memorisation", model.memorisation),
        chapter("Provenance", model.comparability, model.environment, partial(model.params, settings)),
    ]


def _title(settings: Config) -> str:
    data, diffusion, sample = settings.data, settings.diffusion, settings.sample
    return (
        f"{called(data, PROCESSED)} {data.shape.sides}: {settings.model.name}, "
        f"{diffusion.schedule.name}, {diffusion.parameterization.name}, {sample.sampler.name} {sample.steps}"
    )
