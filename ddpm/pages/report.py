"""One self-contained HTML page of what is known of the current model, and of the variants beside it.

It opens from disk: pictures are inlined, there is no script, and its content policy forbids the page to fetch anything.
What is missing says in its place how to get it.
"""

from __future__ import annotations

from collections.abc import Sequence
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
from ddpm.pages.compared import Subject
from ddpm.pages.parts import Section, section
from ddpm.params.config import Config


def write(
    out: Path, by: Sequence[str] = (), allow_budget_mismatch: bool = False, allow_code_mismatch: bool = False
) -> None:
    """Write the page, with the variants of the params keys ``by``.

    Raises UserError when params.yaml can't be read, no run has such a key, or ``out`` can't be written.
    """
    subject = Subject.read(by, allow_budget_mismatch, allow_code_mismatch)
    page = render(_title(subject.settings), sections(subject))
    with files.atomic_path(out) as temporary:
        temporary.write_text(page, encoding="utf-8")


def sections(subject: Subject) -> list[Section]:
    """The page's sections in their order."""
    return [
        section("Scores", [model.scores, model.staleness]),
        section("Verdict", [partial(compared.verdict, subject)]),
        section("Samples", [partial(compared.samples, subject)]),
        section("Curves", [partial(compared.curves, subject), model.extrapolation]),
        section("Quality against cost", [model.quality_against_cost]),
        section("Calibration", [model.calibration]),
        section("Memorisation", [model.memorisation]),
        section("Provenance", [model.fingerprint, model.environment, partial(model.params, subject.settings)]),
    ]


def render(title: str, shown: Sequence[Section]) -> str:
    """HTML in which all text is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ddpm.pages", ""),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    css = (resources.files("ddpm.pages") / "report.css").read_text()
    made = f"Made on {datetime.now(UTC):%Y-%m-%d at %H:%M} UTC by `ddpm report`."
    template = environment.get_template("report.html")
    return template.render(title=title, subtitle=made, css=Markup(css), sections=shown)  # noqa: S704 (our own file)


def _title(settings: Config) -> str:
    data, diffusion, sample = settings.data, settings.diffusion, settings.sample
    return (
        f"{called(data, PROCESSED)} {data.image_size}x{data.image_size}: {settings.model.name}, "
        f"{diffusion.schedule.name}, {diffusion.parameterization.name}, {sample.sampler.name} {sample.steps}"
    )
