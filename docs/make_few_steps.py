"""Make the pictures of docs/atlas-few-steps.md: ``python -m docs.make_few_steps``, in the project's folder.

few-steps.png is each method's score by its evaluations of the network, and few-steps-samples.png what it draws.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from ddpm.base import files
from ddpm.base.images import Images
from ddpm.pictures import grids, plots

STUDIES, DOCS = Path("metrics/studies"), Path("docs")
EVALUATIONS = (1, 2, 4, 8)  # at most; Heun's sampler takes an odd number
DATA = {"digits": "few_steps", "MNIST": "few_steps_mnist"}  # what the images are: how its studies' names begin
SHOWN = 4  # images of each method


def frontier(data: str) -> plots.Panel:
    """Each method's mean score by its evaluations, with the range of its seeds."""
    curves: dict[str, list[tuple[float, ...]]] = {}
    for count in EVALUATIONS:
        verdict = files.read_json(STUDIES / f"{DATA[data]}_{count}" / "verdict.json")
        evaluations = {arm["label"]: arm["evaluations"] for arm in verdict["arms"]}
        rows = [row for row in verdict["verdicts"] if row["metric"] == verdict["primary"]]
        scores = {rows[0]["baseline"]: rows[0]["baseline_scores"]} | {row["arm"]: row["arm_scores"] for row in rows}
        for arm, of_arm in scores.items():
            curves.setdefault(arm, []).append((evaluations[arm], np.mean(of_arm), min(of_arm), max(of_arm)))
    drawn = {arm: np.array(points) for arm, points in curves.items()}
    return plots.Panel(data, "evaluations of the network", "classifier.fd", drawn, log="xy", ticks=EVALUATIONS)


def samples(data: str, arm: str) -> Images:
    """The first images of the picture of what an arm drew, for each number of evaluations, (N, 3, H, W); gray where it
    is not in the study."""
    drawn = []
    for count in EVALUATIONS:
        folder = STUDIES / f"{DATA[data]}_{count}"
        path = folder / f"{arm}.png"
        with Image.open(path if path.exists() else folder / "ddim.png") as picture:
            part = picture.convert("RGB").crop((0, 0, picture.width * SHOWN // grids.STRIP, picture.height))
        drawn.append(np.asarray(part) if path.exists() else np.full_like(np.asarray(part), grids.BORDER))
    return np.stack(drawn).transpose(0, 3, 1, 2)


def main() -> None:
    panels = [frontier(data) for data in DATA]
    plots.lines(DOCS / "few-steps.png", panels)
    rows = {f"{panel.title}: {arm}": samples(panel.title, arm) for panel in panels for arm in panel.curves}
    titles = [f"{count} evaluation{'s' * (count > 1)}" for count in EVALUATIONS]
    grids.save_rows(rows, DOCS / "few-steps-samples.png", titles)


if __name__ == "__main__":
    main()
