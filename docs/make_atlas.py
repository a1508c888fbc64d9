"""Make docs/atlas.md and docs/atlas.png: ``python -m docs.make_atlas``, in the project's folder.

The prose is in atlas_text.py. The rest comes from the verdicts and records in metrics/studies/, the plans in studies/
and the pages atlas-*.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache, partial
from itertools import chain, groupby
from pathlib import Path
from textwrap import fill
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Patch
from scipy.stats import false_discovery_control, kurtosis, shapiro

from ddpm.base import files
from ddpm.base.sections import Affects
from ddpm.params.config import Config, keys_affecting
from ddpm.pictures import plots
from ddpm.referee import metrics
from ddpm.report import overview, render
from ddpm.report.blocks import Chapter, Figure, Markdown, Note, Table
from ddpm.runs import library
from ddpm.study import loading
from ddpm.study.plan import Study
from ddpm.verdicts.statistics import Array
from ddpm.verdicts.verdict import PRIMARY
from docs import atlas_text, by_size
from docs.atlas_text import percent

PAGE, STUDIES = Path("docs/atlas.md"), Path("metrics/studies")
# studies whose verdicts have a table or a page of their own
ELSEWHERE = ("few_steps_", "night", "claims_", "eyes_", "central_", "contrasts_", "search_", "find_", by_size.PREFIX)
RATE = 0.05  # of false discoveries, over the whole atlas
OPEN, LIKELIHOOD, FRAGILE = "open", "bits_per_dim", "*"
SHORT = {"classifier.fd": "", "panel.score": "panel ", LIKELIHOOD: "bits/dim "}  # names of metrics in the tables
DIFFERENT = ("better", "worse")
EDGES = 0.05, 6.0  # of the picture; what is beyond is at the edge
COLOURS = plots.OUTCOMES | {OPEN: plots.UNDECIDED}


class Row(NamedTuple):
    """An arm against its study's baseline, by the study's primary metric.

    verdict: as in verdict.json; likelihood: the one on bits per dimension, if there is one. p, likelihood_p: of this
    comparison alone, 1 without one. stands: whether it holds at
    RATE over the whole atlas; None where nothing was decided by a difference.
    """

    study: str
    baseline: Config
    arm: Config
    verdict: dict[str, Any]
    likelihood: dict[str, Any] | None
    p: float
    likelihood_p: float
    stands: bool | None = None

    @property
    def data(self) -> str:
        data = self.arm.data
        return f"{Path(data.source).stem if data.source else data.dataset.name} {data.shape.height}x{data.shape.width}"

    @property
    def compared(self) -> str:
        return f"{self.verdict['arm']} against {self.verdict['baseline']}"

    @property
    def outcome(self) -> Markdown:
        word = outcome(self.verdict)
        return word if self.stands is not False else Markdown(f"{word} {FRAGILE}")

    @property
    def difference(self) -> str:
        """As a share of the baseline's score, with the metric unless that is the Fréchet distance."""
        metric = self.verdict["metric"]
        return f"{SHORT.get(metric, f'{metrics.title(metric)} ')}{share(self.verdict)}"

    @property
    def effect(self) -> str:
        verdict = self.verdict
        same = sum((after - before) * verdict["difference"] > 0 for before, after in pairs(verdict))
        low, high = (percent(verdict[end] / verdict["baseline_mean"]) for end in ("low", "high"))
        return f"{self.difference}, {low} to {high} ({same}/{len(verdict['seeds'])})"

    def cells(self, first: bool = True) -> list[str]:
        """The row of the table. first: of its study, which it names."""
        study = f"[{self.study}](../metrics/studies/{self.study}/verdict.md) against {self.verdict['baseline']}"
        likelihood = self.likelihood
        return [
            Markdown(study if first else ""),
            self.verdict["arm"],
            Markdown(f"{self.outcome} {self.effect}"),
            Markdown("-" if likelihood is None else f"{share(likelihood)}: {outcome(likelihood)}"),
        ]


def outcome(verdict: dict[str, Any]) -> Markdown:
    """The outcome as the table shows it."""
    word = verdict["outcome"]
    return Markdown(f"**{word}**" if word in plots.OUTCOMES else word if word == "useless" else OPEN)


def share(verdict: dict[str, Any]) -> str:
    """The difference as a share of the baseline's score."""
    return percent(verdict["relative"])


def pairs(verdict: dict[str, Any]) -> Iterator[tuple[float, float]]:
    """The baseline's score and the arm's, for each seed."""
    return zip(verdict["baseline_scores"], verdict["arm_scores"], strict=True)


def read() -> dict[str, dict[str, Any]]:
    """Each study's verdict."""
    return {path.parent.name: files.read_json(path) for path in sorted(STUDIES.glob("*/verdict.json"))}


def rows(studies: dict[str, dict[str, Any]]) -> list[Row]:
    """All comparisons by the primary metric of their study, and which of them stand together."""
    unjudged = [row for name, study in studies.items() for row in of_study(name, study)]
    stand = false_discovery_control([row.p for row in unjudged], method="by") <= RATE
    return [
        row._replace(stands=bool(holds)) if row.verdict["outcome"] in DIFFERENT else row
        for row, holds in zip(unjudged, stand, strict=True)
    ]


def of_study(name: str, study: dict[str, Any]) -> Iterator[Row]:
    """The study's comparisons. The p values of its table divide the parts of the error rate, PRIMARY for the primary
    metric, among all comparisons, and are cut off at 1."""
    arms = plan(name).arms
    primary = [verdict for verdict in study["verdicts"] if verdict["metric"] == study["primary"]]
    likelihoods = {verdict["arm"]: verdict for verdict in study["verdicts"] if verdict["metric"] == LIKELIHOOD}
    secondary = len(study["verdicts"]) - len(primary)
    for verdict in primary:
        likelihood = likelihoods.get(verdict["arm"]) if study["primary"] != LIKELIHOOD else None
        parts = (verdict, PRIMARY / len(primary)), (likelihood, (1 - PRIMARY) / max(secondary, 1))
        p, likelihood_p = (one["p"] * part if one and one["p"] < 1 else 1.0 for one, part in parts)
        before, after = (arms[verdict[side]].config for side in ("baseline", "arm"))
        yield Row(name, before, after, verdict, likelihood, p, likelihood_p)


@cache
def plan(name: str) -> Study:
    """The study's plan, read once."""
    return loading.load(Path(f"studies/{name}.yaml"))


def questions() -> Iterator[str]:
    """Each question, linked to its page, and what the answer that the page begins with comes to."""
    for path in sorted(PAGE.parent.glob("atlas-*.md")):
        title, answer = path.read_text(encoding="utf-8").split("\n\n")[:2]
        short = re.split("[.:;]", " ".join(answer.split()).removeprefix("**"))[0]
        yield f"* [{title.removeprefix('# ')}]({path.name}) {short}."


def together(comparisons: list[Row]) -> Note:
    """How many verdicts stand at RATE over the whole atlas, which do not, and what that rests on."""
    decided = [row for row in comparisons if row.stands is not None]
    alone = [row.verdict["outcome"] in DIFFERENT for row in comparisons]
    likelihoods = [row for row in comparisons if row.likelihood]
    both = [row.p for row in comparisons] + [row.likelihood_p for row in likelihoods]
    either = alone + [row.likelihood["outcome"] in DIFFERENT for row in likelihoods if row.likelihood]
    gaps = [differences(row.verdict) for row in comparisons]
    many = [gap for gap in gaps if len(gap) >= 8 and gap.std() > 0]
    tails = [float(kurtosis(gap, bias=False)) for gap in many]
    names = (f"{row.compared} ({row.study}, p = {row.p:.2g})" for row in decided if not row.stands)
    text = atlas_text.ALL_TOGETHER.format(
        rows=len(comparisons),
        decided=len(decided),
        standing=surviving([row.p for row in comparisons], alone),
        decided_all=sum(either),
        standing_all=surviving(both, either),
        flips=surviving([sign_flip_p(gap) for gap in gaps], alone),
        fragile="; ".join(names) or "none",
        samples=len(many),
        odd=sum(shapiro(gap).pvalue < RATE for gap in many),
        kurtosis=np.mean(tails),
        error=np.std(tails) / len(tails) ** 0.5,
    )
    return Note(Markdown(fill(text, 120, break_on_hyphens=False)))


def surviving(p: list[float], decided: list[bool]) -> int:
    """How many of the comparisons that are decided stand at RATE among all with these p values."""
    return int((decided & (false_discovery_control(p, method="by") <= RATE)).sum())


def differences(verdict: dict[str, Any]) -> Array:
    """Arm minus baseline, by seed."""
    return np.subtract(verdict["arm_scores"], verdict["baseline_scores"])


def sign_flip_p(gaps: Array) -> float:
    """The exact two-sided p value of the sign-flip test, as if there had been one look."""
    sums = gaps[:1]
    for gap in gaps[1:]:
        sums = np.concatenate([sums + gap, sums - gap])
    return float(np.mean(np.abs(sums) >= abs(gaps.sum()) - 1e-12 * np.abs(gaps).sum()))


def shared() -> Note:
    """Which studies rest on the same trainings, by the params and seeds of their records."""
    trainings: dict[str, set[str]] = {}
    records = 0
    for folder in sorted(STUDIES.glob("*")):
        for run in library.folder(folder).records:
            inputs = keys_affecting(Affects.LEARNED, run.params)
            trainings.setdefault(folder.name, set()).add(files.digest([inputs, run.seed, run.program]))
            records += 1
    groups: list[list[str]] = []
    for name, models in trainings.items():
        linked = [group for group in groups if any(models & trainings[other] for other in group)]
        groups = [group for group in groups if group not in linked] + [[*chain.from_iterable(linked), name]]
    shown = [[name for name in sorted(group) if not name.startswith(ELSEWHERE)] for group in sorted(groups)]
    text = atlas_text.SHARED.format(
        records=records,
        trainings=len(set().union(*trainings.values())),
        groups="; ".join(", ".join(group) for group in shown if len(group) > 1),
    )
    return Note(Markdown(fill(text, 120, break_on_hyphens=False)))


def transfer(comparisons: list[Row]) -> Table:
    """A row for each setting that alone differs between arms and baselines on several data sets, with the verdicts."""
    cells: dict[str, dict[str, list[str]]] = {}
    for row in comparisons:
        before, after = row.baseline.flat(), row.arm.flat()
        changes = [
            f"{overview.label(key)} {after[key]} against {before[key]}"
            for key in sorted(before.keys() & after.keys())
            if before[key] != after[key]
        ]
        if len(changes) == 1:
            line = f"{row.outcome} {row.difference}: {row.study}"
            cells.setdefault(changes[0], {}).setdefault(row.data, []).append(line)
    data = sorted({name for by_data in cells.values() for name in by_data})
    lines = [
        [change, *(Markdown("; ".join(by_data.get(name, ["-"]))) for name in data)]
        for change, by_data in sorted(cells.items())
        if len(by_data) > 1
    ]
    return Table(["change", *data], lines, text_columns=range(len(data) + 1))


def page(studies: dict[str, dict[str, Any]], folder: Path) -> str:
    """The whole page; its picture is written into the folder."""
    comparisons = rows(studies)
    shown = [
        row for row in comparisons if not row.study.startswith(ELSEWHERE) and row.verdict["outcome"] != by_size.EARLY
    ]
    caption = "each comparison of the table below: each seed's score over the baseline's, with mean and interval"
    chapters = [
        Chapter("", [Note(Markdown(atlas_text.INTRODUCTION))]),
        Chapter("Questions", [Note(Markdown("\n".join(questions())))]),
        Chapter(
            "Verdicts",
            [
                Note(Markdown(atlas_text.READING)),
                Figure(caption, "atlas", partial(draw, rows=shown)),
                *by_data(shown),
            ],
        ),
        Chapter("All verdicts together", [together(comparisons), shared()]),
        Chapter("Do verdicts carry over to other data?", [Note(Markdown(atlas_text.TRANSFER)), transfer(shown)]),
        Chapter(
            "Do verdicts carry over to larger networks?", [Note(Markdown(atlas_text.BY_SIZE)), *by_size.parts(studies)]
        ),
        Chapter("Limits", [Note(Markdown(atlas_text.LIMITS))]),
    ]
    return f"# The atlas\n\n{render.markdown(chapters, folder)}"


def by_data(comparisons: list[Row]) -> Iterator[Note | Table]:
    """A table of the comparisons on each data set."""
    heads = ["study", "arm", "verdict, effect", "likelihood"]
    for data in sorted({row.data for row in comparisons}):
        yield Note(Markdown(f"**{data}**"))
        groups = groupby((row for row in comparisons if row.data == data), lambda row: row.study)
        lines = [row.cells(first=place == 0) for _, group in groups for place, row in enumerate(group)]
        yield Table(heads, lines, text_columns=range(len(heads)))


def draw(path: Path, rows: list[Row]) -> None:
    """A line for each comparison, in groups of one data set: how many times the baseline's score."""
    ordered = sorted(rows, key=lambda row: (row.data, row.study))
    figure = Canvas(figsize=(9, 0.6 + 0.3 * len(ordered)), layout="constrained")
    axes = figure.subplots()
    axes.axvline(1, color=plots.UNDECIDED, linewidth=1)
    for y, row in enumerate(ordered):
        verdict, mean = row.verdict, row.verdict["baseline_mean"]
        colour = plots.OUTCOMES.get(verdict["outcome"], plots.UNDECIDED)
        ratios = [1 + (after - before) / mean for before, after in pairs(verdict)]
        interval = [1 + verdict["low"] / mean, 1 + verdict["high"] / mean]
        axes.plot(np.clip(ratios, *EDGES), [y] * len(ratios), ".", color=colour, alpha=0.4)
        axes.plot(np.clip(interval, *EDGES), [y, y], color=colour, linewidth=2)
        middle = 1 + verdict["relative"]
        at = float(np.clip(middle, *EDGES))
        axes.plot(at, y, "D" if at == middle else "<" if at > middle else ">", color=colour)
    axes.set(xscale="log", xlim=(EDGES[0] / 1.1, EDGES[1] * 1.1), ylim=(len(ordered) - 0.5, -0.5))
    axes.set_xlabel("arm / baseline, below 1 is better: each seed, their mean, its interval")
    ticks = [0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 4, 6]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    marks = [f" {FRAGILE}" * (row.stands is False) for row in ordered]
    names = [f"{row.data}, {row.study}: {row.compared}{mark}" for row, mark in zip(ordered, marks, strict=True)]
    axes.set_yticks(range(len(ordered)), names, fontsize=8)
    shown = {row.verdict["outcome"] if row.verdict["outcome"] in plots.OUTCOMES else OPEN for row in ordered}
    handles = [Patch(color=colour, label=outcome) for outcome, colour in COLOURS.items() if outcome in shown]
    axes.legend(handles=handles, loc="lower right", fontsize=8)
    figure.savefig(path, dpi=100, metadata={"Software": None})


def main() -> None:
    PAGE.write_text(page(read(), PAGE.parent), encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
