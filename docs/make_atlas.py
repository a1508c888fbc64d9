"""Make docs/atlas.md: ``python -m docs.make_atlas``.

Its text is atlas.md.jinja, what papers claim and what studies do not show is in claims.yaml, and the rest comes from
the verdicts in metrics/studies/ and the plans in studies/.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import yaml
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ddpm.base.files import atomic_path, read_json
from ddpm.model import build
from ddpm.pictures import plots
from ddpm.report import overview
from ddpm.study import loading
from ddpm.study.experiments import Study
from ddpm.verdicts import metrics

PAGE, PICTURE = Path("docs/atlas.md"), Path("docs/atlas.png")
TEMPLATE, CLAIMS = Path("docs/atlas.md.jinja"), Path("docs/claims.yaml")
STUDIES = Path("metrics/studies")
OPEN = "open"
EDGES = 0.2, 6.0  # of the picture; what is beyond is at the edge
SHOWN = plots.OUTCOMES | {OPEN: plots.UNDECIDED}


def read() -> dict[str, dict[str, Any]]:
    """Each study's verdict. Run in the project's folder."""
    return {path.parent.name: read_json(path) for path in sorted(STUDIES.glob("*/verdict.json"))}


def page(studies: dict[str, dict[str, Any]]) -> str:
    """The whole page."""
    known: dict[str, Any] = yaml.safe_load(CLAIMS.read_text(encoding="utf-8"))
    discussed = {name: known[name] for name in studies if name in known}
    environment = jinja2.Environment(  # noqa: S701 - Markdown, in which nothing is escaped
        trim_blocks=True, keep_trailing_newline=True, undefined=jinja2.StrictUndefined
    )
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        questions=questions(),
        table=table,
        verdicts=[row for name, study in studies.items() for row in verdicts(name, study)],
        transfer=transfer(studies),
        curves=[row for name, study in studies.items() for row in curves(name, study)],
        claims=[[name, said["claim"], said["verdict"]] for name, of in discussed.items() for said in of["said"]],
        limits={name: of["limits"] for name, of in discussed.items()},
    )


def questions() -> Iterator[str]:
    """Each question, linked to its page, with the answer that the page begins with."""
    for path in sorted(PAGE.parent.glob("atlas-*.md")):
        title, answer = path.read_text(encoding="utf-8").split("\n\n")[:2]
        yield f"[{title.removeprefix('# ')}]({path.name}) {' '.join(answer.split()).split('**')[1]}"


@cache
def loaded(name: str) -> Study:
    """The study's plan, read once."""
    return loading.load(Path(f"studies/{name}.yaml"))


def verdicts(name: str, study: dict[str, Any]) -> Iterator[list[str]]:
    """A row for each arm, by the primary metric."""
    planned = loaded(name)
    for found in primary(study):
        chosen = planned.configs[found["arm"]]
        outcome = found["outcome"] if found["outcome"] in plots.OUTCOMES else OPEN
        seeds, images = found["seeds"], (chosen.train.steps or 0) * chosen.train.batch_size
        same = sum((after - before) * found["difference"] > 0 for before, after in paired(found))
        shown = "+.0%" if abs(found["relative"]) >= 0.095 else "+.1%"
        yield [
            f"[{name}](../metrics/studies/{name}/verdict.md)",
            f"{chosen.data.dataset.name} {chosen.data.shape.sides}",
            f"{found['arm']} against {found['baseline']}",
            outcome if outcome == OPEN else f"**{outcome}**",
            f"{metrics.title(found['metric'])} {found['relative']:{shown}} ({same} of {len(seeds)})",
            f"{found['low']:+.2f} to {found['high']:+.2f}",
            str(len(seeds)),
            f"{images:,} images, {build.parameters(chosen):,} weights",
        ]


def transfer(studies: dict[str, dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """The head, and a row for each setting that alone is another in an arm than in its baseline, with the verdicts
    on each data set."""
    cells: dict[str, dict[str, list[str]]] = {}
    for name, study in studies.items():
        planned = loaded(name)
        for row, found in zip(verdicts(name, study), primary(study), strict=True):
            before, after = (planned.configs[found[which]].flat() for which in ("baseline", "arm"))
            changes = [
                f"{overview.label(key)} {after[key]} against {before[key]}"
                for key in sorted(before.keys() & after.keys())
                if before[key] != after[key]
            ]
            if len(changes) == 1:
                cells.setdefault(changes[0], {}).setdefault(row[1], []).append(f"{row[3]}, {row[4]}, {row[5]}: {name}")
    data = sorted({name for found in cells.values() for name in found})
    asked = sorted(cells.items(), key=lambda item: (-len(item[1]), item[0]))
    rows = [[change, *("; ".join(found.get(name, ["-"])) for name in data)] for change, found in asked]
    return ["change", *data], rows


def paired(found: dict[str, Any]) -> Iterator[tuple[float, float]]:
    """The baseline's score and the arm's, for each seed."""
    return zip(found["baseline_scores"], found["arm_scores"], strict=True)


def primary(study: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What was found by the score that decides."""
    return (found for found in study["verdicts"] if found["metric"] == study["primary"])


def curves(name: str, study: dict[str, Any]) -> Iterator[list[str]]:
    """A row for each arm whose scores are known at several budgets."""
    for against in (study.get("curves") or {}).get("against", ()):
        points = [f"{point['outcome']} at {point['images']:,}" for point in against["points"]]
        yield [name, against["arm"], study["arms"][0]["label"], "; ".join(points)]


def table(head: list[str], rows: list[list[str]]) -> str:
    """In Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def draw(path: Path, studies: dict[str, dict[str, Any]]) -> None:
    """A row for each comparison, by the primary metric, in groups of one data set: how many times the baseline's."""
    rows = sorted(
        (
            (data, name, found)
            for name, study in studies.items()
            for (_, data, *_), found in zip(verdicts(name, study), primary(study), strict=True)
        ),
        key=lambda row: row[:2],
    )
    figure = Figure(figsize=(9, 0.6 + 0.3 * len(rows)), layout="constrained")
    axes = figure.subplots()
    axes.axvline(1, color=plots.UNDECIDED, linewidth=1)
    for y, (_, _, found) in enumerate(rows):
        mean = found["baseline_mean"]
        colour = plots.OUTCOMES.get(found["outcome"], plots.UNDECIDED)
        ratios = [1 + (after - before) / mean for before, after in paired(found)]
        interval = [1 + found["low"] / mean, 1 + found["high"] / mean]
        axes.plot(np.clip(ratios, *EDGES), [y] * len(ratios), ".", color=colour, alpha=0.4)
        axes.plot(np.clip(interval, *EDGES), [y, y], color=colour, linewidth=2)
        middle = 1 + found["relative"]
        axes.plot(np.clip(middle, *EDGES), y, "D" if middle <= EDGES[1] else ">", color=colour)
    names = [f"{data}, {name}: {found['arm']} against {found['baseline']}" for data, name, found in rows]
    axes.set(xscale="log", xlim=(EDGES[0] / 1.1, EDGES[1] * 1.1), ylim=(len(rows) - 0.5, -0.5))
    axes.set_xlabel("arm / baseline, below 1 is better: each seed, their mean, its interval")
    ticks = [0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 4, 6]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_yticks(range(len(rows)), names, fontsize=8)
    seen = {found["outcome"] if found["outcome"] in plots.OUTCOMES else OPEN for *_, found in rows}
    handles = [Patch(color=colour, label=outcome) for outcome, colour in SHOWN.items() if outcome in seen]
    axes.legend(handles=handles, loc="lower right", fontsize=8)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=100, metadata={"Software": None})


def main() -> None:
    studies = read()
    PAGE.write_text(page(studies), encoding="utf-8")
    draw(PICTURE, studies)
    print(PAGE, PICTURE)


if __name__ == "__main__":
    main()
