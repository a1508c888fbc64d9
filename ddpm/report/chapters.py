"""The current model: its scores, what they mean, what they cost, and how near its samples come to train images."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from functools import partial

import numpy as np

from ddpm.base import errors, files
from ddpm.base.errors import UserError
from ddpm.base.paths import EVALUATION, LOSS
from ddpm.params.config import Config
from ddpm.pictures.plots import Panel
from ddpm.report import noticed, summary
from ddpm.report.blocks import Block, Figure, Note, Table, plain
from ddpm.runs import library
from ddpm.runs.record import Record
from ddpm.verdicts import metrics, sensitivity

NEAREST = EVALUATION / "nearest.png"
BINS = 100  # points of a loss curve


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
        "make a Fréchet distance smaller."
    )
    return [*summary.scores(run), Note(how)]


def loss() -> list[Block]:
    """The training loss, in at most BINS averages of successive rows."""
    import pandas as pd

    try:
        rows = pd.read_csv(LOSS)[["step", "loss"]].to_numpy(float)
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"{LOSS}: no loss by step ({error!r}); `dvc repro` makes it") from error
    curve = np.array([part.mean(0) for part in np.array_split(rows, min(BINS, len(rows)))])
    caption = f"Training loss, in at most {BINS} averages of successive rows."
    return [Figure(caption, [Panel("training loss", "step", "loss", {"loss": curve}, log="y")])]


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
