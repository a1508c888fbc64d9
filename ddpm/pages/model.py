"""The current model: its scores, what they mean, what they cost, and how near its samples come to train images."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from ddpm.base import errors, files
from ddpm.base.errors import UserError
from ddpm.base.paths import CURVE, EVALUATE, EVALUATION, FD_N, FINGERPRINT, METRICS, MODEL_FILE, REFERENCE
from ddpm.compare import excess, frontier, measured, metrics, snapshots, summary
from ddpm.compare import sanity as noticed
from ddpm.compare.excess import LOG_SNR, Levels
from ddpm.compare.revisions import Revision
from ddpm.params.config import Config
from ddpm.pictures.plots import Panel
from ddpm.report.blocks import Block, Figure, Note, Table, number, plain
from ddpm.runs.library import WORKSPACE
from ddpm.tracking import record

FRONTIER = METRICS / "frontier.csv"
CALIBRATION = REFERENCE / "calibration.json"
NEAREST = EVALUATION / "nearest.png"
UNIT = "squared error of epsilon"
TINY = 1e-12  # against a division by 0
GOAL = (
    "The optimum on train images is that of a denoiser that knows them by heart, so reaching it at low noise is "
    "memorisation, and no goal. The least error that is possible on new images lies between the optimum's on train "
    "images and the optimum's on held-out images."
)


class Ladder(BaseModel):
    """Part of data/reference/calibration.json. floor: scores of the real test images, and their ``count``; ladder: the
    degradation -> rungs, each with a ``level`` and scores."""

    floor: dict[str, float]
    ladder: dict[str, list[dict[str, float]]]


def summarized(settings: Config) -> list[Block]:
    """What `ddpm summary` prints about the model."""
    measured.scores()  # raises UserError if one is not a number
    of_stages = {stage: measured.read(METRICS / f"{stage}.json") for stage in ("train", "sample", "evaluate")}
    return [Note(line) for line in summary.results(settings, of_stages)]


def scores(settings: Config) -> list[Block]:
    """The current scores next to those of the yardsticks and of real test images at the same number of images; those
    of another number are apart."""
    found = measured.scores()
    every = metrics.in_order({name for name in found if metrics.is_judged(name)})
    if not every:
        raise UserError(f"{EVALUATE}: holds no score; `dvc repro -f evaluate` makes it again")
    drawn = settings.sample.count
    beside = {
        name: {what: number(score) for what, (score, count) in metrics.others(found, name).items() if count == drawn}
        for name in every
    }
    others = [what for what in metrics.OTHERS.values() if any(what in shown for shown in beside.values())]
    rows = []
    for name in every:
        error = found.get(f"{name}_se")
        shown = number(found[name]) + (f" ± {number(error)}" if error is not None else "")
        rows.append((name, metrics.direction(name), shown, *(beside[name].get(what, "") for what in others)))
    return [
        Table(("score", "better", "this model", *others), rows, f"at N = {drawn:,}", text_columns=(0, 1)),
        *map(Note, metrics.apart(found, every, drawn)),
        Note(
            "± is a standard error. A Gaussian is fitted to the train images, one per class to those of each. More "
            "images make a Fréchet distance smaller: Calibration compares at the same N."
        ),
    ]


def staleness() -> list[Block]:
    """Whether the working folder's metrics belong to its params and code."""
    snapshots.check_metrics()
    return []


def extrapolation() -> list[Block]:
    """The Fréchet distance against 1 / N with its limit, for each extractor."""
    distances, found = _distances(), measured.scores()
    if not distances:
        raise UserError(f"{FD_N}: no rows, for too few samples; raise sample.count to see the distance fall with N")
    figures: list[Block] = []
    for extractor, rows in distances.items():
        limit = next((n for key in metrics.EXTRAPOLATED if (n := f"{extractor}.{key}") in found), None)
        curve = np.stack([1 / rows[:, 0], rows[:, 1]], axis=1)[::-1]
        drawn, levels = {"this model": curve}, {}
        if limit is not None:
            drawn["to infinitely many"] = np.array([[0.0, found[limit]], curve[0]])
            levels = {"real test images, infinitely many": found[f"real.{limit}"]} if f"real.{limit}" in found else {}
        caption = (
            f"{extractor}: the Fréchet distance of N samples against 1 / N, and its limit (arXiv:1911.07023). Compare "
            "models at the same N, or at the limit."
        )
        panel = Panel(f"{extractor}: distance by N", "1 / N", "Fréchet distance", drawn, levels, points=True)
        figures.append(Figure(caption, [panel]))
    return figures


def _distances() -> dict[str, NDArray[np.float64]]:
    """extractor -> (rows, 2) of N and Fréchet distance, in order of N."""
    import pandas as pd

    try:
        rows = pd.read_csv(FD_N).astype({"n": float, "fd": float}).sort_values("n")
        return {str(name): rows[["n", "fd"]].to_numpy() for name, rows in rows.groupby("extractor")}
    except FileNotFoundError as error:
        raise UserError(f"{FD_N}: no such file; `dvc repro` makes it") from error
    except (KeyError, ValueError) as error:
        raise UserError(f"{FD_N}: no distances by N ({error!r}); `dvc repro -f evaluate` makes it again") from error


def quality_against_cost() -> list[Block]:
    """The frontier of the current model."""
    points = frontier.read_csv(FRONTIER)
    first = points.iloc[0]
    if not MODEL_FILE.exists() or files.sha256(MODEL_FILE)[: len(first.model)] != first.model:
        raise UserError(f"{FRONTIER}: of another model, {first.model}, than {MODEL_FILE}; run `ddpm frontier` again")
    heads, *rows = frontier.front(points)
    caption = (
        f"{frontier.title(points)}. Means over {first.sets} sets of {first.images:,} images, drawn on {first.device}; "
        f"{frontier.CLOCKS_SAY}"
    )
    figures = [Figure(f"{panel.title}. Both axes are logarithmic.", [panel]) for panel in frontier.panels(points)]
    return [*figures, Table(heads, rows, caption, text_columns=(0, 3))]


def convergence() -> list[Block]:
    """The model's error next to the smallest possible one, by noise level, and what that says. Raises UserError if the
    errors are not there."""
    levels = Levels.read(Revision(WORKSPACE, WORKSPACE))
    sides = {"train": levels.train, "held-out": levels.test}
    x = levels.log_snr
    errors = {f"model, {name}": np.stack([x, side.error], 1) for name, side in sides.items()}
    errors |= {f"optimum, {name}": np.stack([x, side.optimum], 1) for name, side in sides.items()}
    lowest = min(side.error.min() for side in sides.values())
    shown = {name: curve[curve[:, 1] > lowest / 10] for name, curve in errors.items()}
    # at less noise the optimum is so far off on held-out images that it would hide all else
    seen = levels.test.excess > -levels.test.error / 2
    above = {}
    for name, side in sides.items():
        shares = 100 * np.stack([side.excess, 2 * side.excess_se], 1) / np.maximum(side.error, TINY)[:, None]
        above[name] = np.column_stack([x, shares])[seen]
    return [
        *map(Note, excess.diagnose(levels).sentences()),
        Figure(GOAL, [Panel("error and optimum", LOG_SNR, UNIT, shown, log="y")]),
        Figure(
            "The model's error minus the optimum's, with two standard errors, as a share of the error; 100% is an "
            "optimum of 0. Above 0 on both: too small a network, or too little training. Above 0 on train and below 0 "
            "on held-out images: the optimum has memorised, and the model has not.",
            [Panel("excess over the optimum", LOG_SNR, "% of the model's error", above, {"optimum": 0.0})],
        ),
    ]


def calibration() -> list[Block]:
    """What a distance means: blurred and noised real test images, and where this model lies among them."""
    figures: list[Block] = []
    for extractor, found in measured.read(CALIBRATION, dict[str, Ladder]).items():
        metric = next((name for name in metrics.HEADLINE if name in found.floor), None)
        if metric is None:
            raise UserError(f"{CALIBRATION}: {extractor} has no Fréchet distance: add fid to evaluate.metrics")
        curves = {
            spoiled: np.array([(rung["level"], rung[metric]) for rung in rungs if {"level", metric} <= rung.keys()])
            for spoiled, rungs in found.ladder.items()
        }
        name, count = f"{extractor}.{metric}", round(found.floor["count"])
        own = at_count(extractor, count)
        levels = {} if own is None else {f"this model at N = {count:,}": own}
        caption = (
            f"{name} of the {count:,} real test images, unchanged (level 0) and more and more degraded. "
            f"This model at the same number of images: {'not measured' if own is None else number(own)}."
        )
        panel = Panel(f"{name} of degraded real images", "level", name, curves, levels, log="y", points=True)
        figures.append(Figure(caption, [panel]))
    return figures


def at_count(extractor: str, count: int) -> float | None:
    """This model's Fréchet distance at N = ``count``, interpolated linearly in 1 / N; None outside the measured N."""
    rows = _distances().get(extractor) if FD_N.exists() else None
    if rows is None or not rows[0, 0] <= count <= rows[-1, 0]:
        return None
    return float(np.interp(1 / count, 1 / rows[::-1, 0], rows[::-1, 1]))


def sanity() -> list[Block]:
    """The table of damages, what follows from it, and a picture of the damages."""
    found = noticed.read()
    heads, *rows = noticed.table(found)
    table = Table(heads, rows, f"{noticed.title(found)}. {noticed.explanation(found)}", text_columns=(0,))
    shown = "The damages to the images themselves: real test images, and below them each damage to the same images."
    pictures = [Figure(shown, partial(shutil.copyfile, noticed.PICTURE), wide=True)] if noticed.PICTURE.exists() else []
    return [table, *map(Note, noticed.findings(found)), *pictures]


def memorisation() -> list[Block]:
    """How near the samples come to train images, compared with held-out real images."""
    scores = measured.scores()
    found = metrics.closeness(scores)
    if not found:
        raise UserError(f"{EVALUATE}: has no memorisation scores; `dvc repro -f evaluate` measures it")
    heads = (
        "space", "samples near a train image", "expected", "limit", "verdict", "median distance ratio", "authentic",
    )  # fmt: skip
    rows = []
    for each in found:
        shares = (f"{share:.2%}" for share in (each.share, each.expected, each.limit))
        verdict = "copies train images" if each.copies else "no sign of copies"
        rows.append((each.space, *shares, verdict, f"{each.ratio:.3f}", _authentic(each.space, scores)))
    caption = (
        "A sample is near a train image when its relative distance to it (over the distances to the next ones) is "
        "below that of all but 5% of the held-out images. A share above the limit means that train images are copied. "
        "The ratio of the samples' median distance to that of held-out images is 1 for new images and 0 for copies. "
        "Authentic: the share of samples that are further from their nearest train image than that one is from every "
        "other (arXiv:2102.08921), next to that of held-out images."
    )
    table = Table(heads, rows, caption, text_columns=(0, 4))
    nearest: Block = Note(f"{NEAREST}: no such file; `dvc pull` or `dvc repro` makes it", missing=True)
    if NEAREST.exists():
        shown = "The samples that come nearest to a train image, nearest first, and that train image below each."
        nearest = Figure(shown, partial(shutil.copyfile, NEAREST), wide=True)
    return [table, *map(Note, _since()), nearest]


def _authentic(space: str, scores: Mapping[str, float]) -> str:
    found = [scores.get(f"{metrics.MEMORISATION}{space}.{key}") for key in ("authentic", "authentic_expected")]
    return " / ".join(f"{share:.1%}" for share in found if share is not None) or "-"


def _since() -> list[str]:
    """When the training began to copy; nothing without snapshots."""
    curve = record.by_images(CURVE.read_bytes()) if CURVE.exists() else {}
    if len(curve) < 2:
        return []
    first, *_, last = sorted(curve)
    since = [f"in {space} since {images:,}" for space, images in metrics.copied_since(curve).items()]
    budgets = f"{len(curve)} numbers of images seen, {first:,} to {last:,}"
    return [f"Of {budgets}: train images are copied {', '.join(since)}." if since else f"No copies at {budgets}."]


def comparability() -> list[Block]:
    """Which other scores these may be compared with."""
    found = {key: plain(value) for key, value in files.flatten(measured.read(FINGERPRINT)).items()}
    hashes = {key: value for key, value in found.items() if key.startswith("hash")}
    rest = [item for item in found.items() if item[0] not in hashes]
    return [
        Table(("fingerprint", ""), [*hashes.items()], "Scores may be compared where these are the same.", (0, 1)),
        Table(("key", "value"), rest, "What the fingerprint is made of", (0, 1), folded=True),
    ]


def environment() -> list[Block]:
    """The commit, the software, and what the stages recorded."""
    rows = sorted(record.environment().items())
    for stage in ("train", "sample"):
        path = METRICS / f"{stage}.json"
        if path.exists():
            rows += [(key, plain(value)) for key, value in files.flatten({stage: measured.read(path)}).items()]
    return [Table(("made by", ""), rows, text_columns=(0, 1))]


def params(settings: Config) -> list[Block]:
    """Every key of params.yaml."""
    rows = [(key, errors.masked(plain(value))) for key, value in settings.flat().items()]
    return [Table(("key", "value"), rows, "params.yaml with every default", text_columns=(0, 1), folded=True)]
