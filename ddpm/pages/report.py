"""One self-contained HTML page about the current model and the variants it is compared with.

It opens from disk: pictures are inlined, there is no script, and its content policy forbids the page to fetch anything.
If something is missing, the page says how to get it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib import resources
from pathlib import Path

import jinja2
from markupsafe import Markup

from ddpm.base import files
from ddpm.base.paths import PROCESSED
from ddpm.data.processed import called
from ddpm.pages import compared, model
from ddpm.pages.compared import Compared
from ddpm.pages.parts import Chapter, chapter
from ddpm.params import config
from ddpm.params.config import Config


def write(out: Path, by: Sequence[str] = (), may_differ: Collection[str] = ()) -> None:
    """Write the page, with the variants of the params keys ``by``.

    Raises UserError if params.yaml can't be read, no run has such a key, or ``out`` can't be written.
    """
    settings = config.load()
    found = Compared.read(settings, by, may_differ)
    _write(out, _title(settings), "ddpm report", chapters(settings, found))


def write_study(out: Path, question: str, found: Compared) -> None:
    """Write the page of a study: its verdicts, and its variants side by side. Raises UserError if ``out`` can't be
    written."""
    shown = {
        "Answer": compared.answers,
        "Samples": compared.samples,
        "Verdict": compared.verdict,
        "Curves": compared.curves,
    }
    _write(out, question, "ddpm study", [chapter(title, partial(part, found)) for title, part in shown.items()])


def _write(out: Path, title: str, command: str, shown: Sequence[Chapter]) -> None:
    page = render(title, command, shown)
    with files.atomic_path(out) as temporary:
        temporary.write_text(page, encoding="utf-8")


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


def render(title: str, command: str, shown: Sequence[Chapter]) -> str:
    """The page as HTML, with all text escaped. command: the command that makes the page."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ddpm.pages", ""),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["kind"] = lambda part: type(part).__name__
    css = Markup((resources.files("ddpm.pages") / "report.css").read_text())  # noqa: S704 (our own file)
    made = f"Made on {datetime.now(UTC):%Y-%m-%d at %H:%M} UTC by {command}."
    return environment.get_template("report.html").render(title=title, subtitle=made, css=css, chapters=shown)


def _title(settings: Config) -> str:
    data, diffusion, sample = settings.data, settings.diffusion, settings.sample
    return (
        f"{called(data, PROCESSED)} {data.shape.sides}: {settings.model.name}, "
        f"{diffusion.schedule.name}, {diffusion.parameterization.name}, {sample.sampler.name} {sample.steps}"
    )
