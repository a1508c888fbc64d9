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

DOCS = Path("docs")
STUDIES = {count: Path(f"metrics/studies/few_steps_{count}") for count in (1, 2, 4, 8)}  # by evaluations, at most
SHOWN = 4  # images of each method


def frontier() -> dict[str, plots.Curve]:
    """Each method's mean score by its evaluations, with the range of its seeds."""
    curves: dict[str, list[tuple[float, ...]]] = {}
    for folder in STUDIES.values():
        verdict = files.read_json(folder / "verdict.json")
        evaluations = {arm["label"]: arm["evaluations"] for arm in verdict["arms"]}
        rows = [row for row in verdict["verdicts"] if row["metric"] == verdict["primary"]]
        scores = {rows[0]["baseline"]: rows[0]["baseline_scores"]} | {row["arm"]: row["arm_scores"] for row in rows}
        for arm, of_arm in scores.items():
            curves.setdefault(arm, []).append((evaluations[arm], np.mean(of_arm), min(of_arm), max(of_arm)))
    return {arm: np.array(points) for arm, points in curves.items()}


def samples(arm: str) -> Images:
    """The first images of what an arm drew, for each of STUDIES, (N, 3, H, W); gray where it is no arm."""
    drawn = []
    for folder in STUDIES.values():
        path = folder / f"{arm}.png"
        with Image.open(path if path.exists() else folder / "ddim.png") as strip:
            part = strip.convert("RGB").crop((0, 0, strip.width * SHOWN // grids.STRIP, strip.height))
        drawn.append(np.asarray(part) if path.exists() else np.full_like(np.asarray(part), grids.BORDER))
    return np.stack(drawn).transpose(0, 3, 1, 2)


def main() -> None:
    curves = frontier()
    panel = plots.Panel("", "evaluations of the network", "classifier.fd", curves, log="xy", ticks=[*STUDIES])
    plots.lines(DOCS / "few-steps.png", [panel])
    titles = [f"{count} evaluation{'s' * (count > 1)}" for count in STUDIES]
    grids.save_rows({arm: samples(arm) for arm in curves}, DOCS / "few-steps-samples.png", titles)


if __name__ == "__main__":
    main()
