"""The current model: its scores, what they mean, what they cost, and how near its samples come to train images."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel

from ddpm.base import errors, files
from ddpm.base.errors import UserError
from ddpm.base.paths import EVALUATION, FD_N, LOSS, REFERENCE
from ddpm.params.config import Config
from ddpm.pictures.plots import Panel
from ddpm.report import noticed, summary
from ddpm.report.blocks import Block, Figure, Note, Table, number, plain
from ddpm.runs import library, measured
from ddpm.runs.record import Record
from ddpm.verdicts import metrics, sensitivity

if TYPE_CHECKING:
    from pandas import DataFrame  # it takes a second to import

CALIBRATION = REFERENCE / "calibration.json"
NEAREST = EVALUATION / "nearest.png"
BINS = 100  # points of a loss curve


class Ladder(BaseModel):
    """Part of data/reference/calibration.json. floor: scores of the real test images, and their ``count``; ladder: the
    degradation -> rungs, each with a ``level`` and scores."""

    floor: dict[str, float]
    ladder: dict[str, list[dict[str, float]]]


def summarized(working: Config, run: Record) -> list[Block]:
    """What `ddpm summary` says about the model, and whether its record is of the working folder."""
    lines = [summary.trained(run), *summary.findings(run)]
    try:
        library.current(working)
    except UserError as error:
        lines.append(Note(str(error), missing=True))
    return lines


def scores(run: Record) -> list[Block]:
    """The scores, and how to read them."""
    how = (
        "± is a standard error. A Gaussian is fitted to the train images, one per class to those of each. More images "
        "make a Fréchet distance smaller: Calibration compares at the same N."
    )
    return [*summary.scores(run), Note(how)]


def loss() -> list[Block]:
    """The training loss, in at most BINS averages of successive rows."""
    rows = _table(LOSS, {"step": float, "loss": float}).to_numpy()
    curve = np.array([part.mean(0) for part in np.array_split(rows, min(BINS, len(rows)))])
    caption = f"Training loss, in at most {BINS} averages of successive rows."
    return [Figure(caption, [Panel("training loss", "step", "loss", {"loss": curve}, log="y")])]


def calibration() -> list[Block]:
    """What a distance means: blurred and noised real test images, and where this model lies among them."""
    figures: list[Block] = []
    for extractor, degraded in measured.read(CALIBRATION, dict[str, Ladder]).items():
        metric = next((name for name in metrics.HEADLINE if name in degraded.floor), None)
        if metric is None:
            raise UserError(f"{CALIBRATION}: {extractor} has no Fréchet distance: add fid to evaluate.metrics")
        curves = {
            damage: np.array([(rung["level"], rung[metric]) for rung in rungs])
            for damage, rungs in degraded.ladder.items()
        }
        name, count = f"{extractor}.{metric}", round(degraded.floor["count"])
        score = at_count(extractor, count)
        levels = {} if score is None else {f"this model at N = {count:,}": score}
        caption = (
            f"{name} of the {count:,} real test images, unchanged (level 0) and more and more degraded. "
            f"This model at the same number of images: {'not measured' if score is None else number(score)}."
        )
        panel = Panel(f"{name} of degraded real images", "level", name, curves, levels, log="y", points=True)
        figures.append(Figure(caption, [panel]))
    return figures


def at_count(extractor: str, count: int) -> float | None:
    """This model's Fréchet distance at N = ``count``, interpolated linearly in 1 / N; None outside the measured N."""
    table = _table(FD_N, {"extractor": str, "n": float, "fd": float}).sort_values("n", ascending=False)
    rows = table[table["extractor"] == extractor]
    score = np.interp(1 / count, 1 / rows["n"], rows["fd"], np.nan, np.nan) if len(rows) else np.nan
    return None if np.isnan(score) else float(score)


def _table(path: Path, columns: Mapping[str, type]) -> DataFrame:
    """Columns of a CSV file, of these types. Raises UserError."""
    import pandas as pd

    try:
        return pd.read_csv(path)[[*columns]].astype(columns)
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"{path}: no {', '.join(columns)} ({error!r}); `dvc repro` makes it") from error


def damages() -> list[Block]:
    """What each score notices of damage to real images."""
    return noticed.shown(sensitivity.read())


def memorisation(run: Record) -> list[Block]:
    """How near the samples come to train images, compared with held-out real images."""
    heads = (
        "space", "samples near a train image", "expected", "limit", "verdict", "median distance ratio", "authentic",
    )  # fmt: skip
    rows = []
    for space in metrics.closeness(run.scores):
        shares = (f"{share:.2%}" for share in (space.share, space.expected, space.limit))
        verdict = "copies train images" if space.copies else "no sign of copies"
        rows.append((space.space, *shares, verdict, f"{space.ratio:.3f}", _authentic(space.space, run.scores)))
    if not rows:
        raise UserError(f"{run.name}: its record has no memorisation scores; `dvc repro -f evaluate` measures it")
    caption = (
        "A sample is near a train image when its relative distance to it (over the distances to the next ones) is "
        "below that of all but 5% of the held-out images. A share above the limit means that train images are copied. "
        "The ratio of the samples' median distance to that of held-out images is 1 for new images and 0 for copies. "
        "Authentic: the share of samples that are further from their nearest train image than that one is from every "
        "other (arXiv:2102.08921), next to that of held-out images."
    )
    blocks: list[Block] = [Table(heads, rows, caption, text_columns=(0, 4))]
    if len(curve := run.learned) > 1:
        since = [f"in {space} since {images:,}" for space, images in metrics.copied_since(curve).items()]
        budgets = f"{len(curve)} numbers of images seen, {min(curve):,} to {max(curve):,}"
        copied = f"Of {budgets}: train images are copied {', '.join(since)}."
        blocks.append(Note(copied if since else f"No copies at {budgets}."))
    if not NEAREST.exists():
        return [*blocks, Note(f"{NEAREST}: no such file; `dvc pull` or `dvc repro` makes it", missing=True)]
    shown = "The samples that come nearest to a train image, nearest first, and that train image below each."
    return [*blocks, Figure(shown, partial(shutil.copyfile, NEAREST), wide=True)]


def _authentic(space: str, values: Mapping[str, float]) -> str:
    shares = [values.get(f"{metrics.MEMORISATION}{space}.{key}") for key in ("authentic", "authentic_expected")]
    return " / ".join(f"{share:.1%}" for share in shares if share is not None) or "-"


def provenance(run: Record) -> list[Block]:
    """Which other scores these may be compared with, what made them, and every parameter."""
    costs, fingerprint = run.costs.model_dump(mode="json"), run.fingerprint
    made_by = {"finished": f"{run.finished:%Y-%m-%d %H:%M} UTC", **files.flatten(costs), **run.environment}
    return [
        Note(f"Scores may be compared where the fingerprint is the same: {fingerprint.hash}"),
        Table(("made by", ""), _rows(made_by), text_columns=(0, 1)),
        Table(("key", "value"), _rows(fingerprint.comparable), "What the fingerprint is made of", (0, 1), folded=True),
        Table(("key", "value"), _rows(run.params), "Every parameter", (0, 1), folded=True),
        Table(("file", "md5"), _rows(run.code), "The code that made it", (0, 1), folded=True),
    ]


def _rows(values: Mapping[str, object]) -> list[tuple[str, str]]:
    return [(key, errors.masked(plain(value))) for key, value in files.flatten(values).items()]
