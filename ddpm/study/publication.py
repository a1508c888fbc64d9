"""A judgement published: verdict.json for programs, verdict.md and its pictures for people. And a study in MLflow: a
parent run with its verdict, and its experiments' runs as children, also other machines'. Like every run it is a view of
files, and can be written again: nothing is sent twice."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ddpm.arms.question import strip
from ddpm.base.errors import UserError
from ddpm.base.files import is_own, write_text
from ddpm.pictures import grids
from ddpm.referee import metrics
from ddpm.report import judgement as shown
from ddpm.report import live, render
from ddpm.report.blocks import Block, Chapter, Figure, Note
from ddpm.runs.record import compact
from ddpm.study.ledger import Ledger
from ddpm.study.plan import Study
from ddpm.tracking import tracker
from ddpm.tracking.tracker import Page
from ddpm.verdicts.result import Judgement


def write_verdict(judgement: Judgement, folder: Path, chapters: Sequence[Chapter]) -> list[Path]:
    """Write the files into the folder, or only a page if it ends in .html; return the paths of the texts. chapters: of
    the judgement. Raises UserError for another file's name."""
    if folder.suffix in {".md", ".json", ".png", ".htm"}:
        raise UserError(f"--out: {folder} ends in {folder.suffix}; allowed: a folder, or a page that ends in .html")
    if folder.suffix == ".html":
        render.write(folder, judgement.question, "ddpm", chapters)
        return [folder]
    for_programs, for_people = folder / "verdict.json", folder / "verdict.md"
    write_text(for_programs, compact(shown.to_dict(judgement)))
    render.write(for_people, judgement.question, "ddpm", chapters)
    return [for_programs, for_people]


def pictures(study: Study) -> list[Block]:
    """What the first run of each arm drew. Each leaves a strip, on whichever machine it is; once all are here, one
    picture takes their place."""
    strips, whole = {arm: strip(study.results, arm) for arm in study.plan.arms}, study.results / "samples.png"
    if all(map(is_own, strips.values())):
        Figure("", whole.stem, partial(grids.join, strips)).write(whole)
        for path in strips.values():
            path.unlink()
    return live.side_by_side({"the first samples of each arm": whole, **strips}, narrow=False)


def page(ledger: Ledger, left: str) -> list[Chapter]:
    """What there is so far, without a verdict, which waits for its look. left: the last line of the progress."""
    primary, arms = ledger.study.plan.primary, ledger.arms()
    scores = {arm.label: {seed: run.scores[primary] for seed, run in arm.runs.items()} for arm in arms}
    gaussian = metrics.gaussian([run.scores for arm in arms for run in arm.runs.values()], primary)
    axis = ledger.study.known.axis(primary)
    real = {"real images": ledger.grids(arms[0].label) / "real.png"}
    drawn = {name: ledger.grids(name) / "grid.png" for name in scores}
    return [
        Chapter("", [Note(left), Note("no verdict before the look is complete")]),
        Chapter("Pictures", live.side_by_side(real | drawn)),
        Chapter("Runs", live.show_sides(scores, axis, {"a Gaussian of the train images": gaussian})),
    ]


def log(ledger: Ledger, judgement: Judgement) -> None:
    """Write the study's run and those of its results, unless tracking is off. The files of its verdict are artifacts,
    and the answers are its page."""
    study = ledger.study
    if study.of_program:
        return
    answers = render.markdown([Chapter("", [*map(Note, shown.answers(judgement))])])
    page = Page(
        "ddpm.study",
        study.name,
        f"study {study.name}",
        {"ddpm.plan": study.hash, "ddpm.primary": study.plan.primary},
        f"{render.escape(study.plan.question)}\n\n{answers}\nMore is in verdict.md, among the artifacts.",
        [study.results / "verdict.json", study.results / "verdict.md", *sorted(study.results.glob("*.png"))],
    )
    tracker.write_page(page, ledger.records)
