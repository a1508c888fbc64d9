"""Make the pictures of docs/atlas-few-steps.md: ``python -m docs.make_few_steps``, in the project's folder.

few-steps.png is each method's score by its evaluations of the network, and few-steps-samples.png what it draws.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from ddpm.base import files
from ddpm.base.errors import plural
from ddpm.base.images import Images
from ddpm.pictures import grids, plots

DOCS = Path("docs")
DATA = {"digits": "few_steps", "MNIST": "few_steps_mnist"}  # how the names of the studies begin
EVALUATIONS = (1, 2, 4, 8)  # at most, and how these names end
SHOWN = 4  # images of each method


def folders(data: str) -> list[Path]:
    """The results of the studies, by evaluations."""
    return [Path(f"metrics/studies/{DATA[data]}_{count}") for count in EVALUATIONS]


def frontier(data: str) -> plots.Panel:
    """Each method's mean score by its evaluations, with the range of its seeds."""
    curves: dict[str, list[tuple[float, ...]]] = {}
    for folder in folders(data):
        verdict = files.read_json(folder / "verdict.json")
        evaluations = {arm["label"]: arm["evaluations"] for arm in verdict["arms"]}
        rows = [row for row in verdict["verdicts"] if row["metric"] == verdict["primary"]]
        scores = {rows[0]["baseline"]: rows[0]["baseline_scores"]} | {row["arm"]: row["arm_scores"] for row in rows}
        for arm, of_arm in scores.items():
            curves.setdefault(arm, []).append((evaluations[arm], np.mean(of_arm), min(of_arm), max(of_arm)))
    drawn = {arm: np.array(points) for arm, points in curves.items()}
    return plots.Panel(data, "evaluations of the network", "classifier.fd", drawn, log="xy", ticks=EVALUATIONS)


def samples(data: str, arm: str) -> Images:
    """The first images of what an arm drew, for each of EVALUATIONS, (N, 3, H, W); gray where it is no arm."""
    drawn = []
    for folder in folders(data):
        path = folder / f"{arm}.png"
        with Image.open(path if path.exists() else folder / "ddim.png") as strip:
            part = strip.convert("RGB").crop((0, 0, strip.width * SHOWN // grids.STRIP, strip.height))
        drawn.append(np.asarray(part) if path.exists() else np.full_like(np.asarray(part), grids.BORDER))
    return np.stack(drawn).transpose(0, 3, 1, 2)


def main() -> None:
    panels = [frontier(data) for data in DATA]
    plots.lines(DOCS / "few-steps.png", panels)
    rows = {f"{panel.title}: {arm}": samples(panel.title, arm) for panel in panels for arm in panel.curves}
    titles = [plural(count, "evaluation") for count in EVALUATIONS]
    grids.save_rows(rows, DOCS / "few-steps-samples.png", titles)


if __name__ == "__main__":
    main()
