"""How a study's variants compare at each budget: the snapshots of a training, and its end.

A band holds at all budgets at once: its half-width is a multiple c of each budget's standard error, and c is the upper
quantile of the largest |t| over the budgets (max-t: Hothorn, Bretz & Westfall 2008). It is simulated for normal
differences with the observed correlation between budgets, shrunk by 1 / seeds because few seeds estimate it: budgets of
one training are much alike, so c is well below Bonferroni's. The variants share the error rate equally, and the looks
as the plan's ``spending`` says, each with what it adds, so that a band holds whichever look it is read at. This error
rate is the curves' own: the study's verdict is about the end alone, and its rule does not depend on them. So the chance
that anything on the page is false is up to twice that of the verdict alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from ddpm.compare import metrics, pairing
from ddpm.compare.runs import Run
from ddpm.compare.statistics import Array
from ddpm.compare.tables import Rows
from ddpm.params.config import Compare
from ddpm.pictures import plots
from ddpm.study.plan import Study
from ddpm.study.sequential import Design

DRAWS = 2**14  # of the largest |t|; c is then off by less than 2%

Outcome = Literal["better", "worse", "equivalent", "too early", "useless", "open"]


class Learned(NamedTuple):
    """One variant's mean score at each budget it was scored at. enough: the smallest budget at which the mean is less
    than the smallest gap that matters worse than at the end."""

    variant: str
    seeds: int
    images: tuple[int, ...]
    means: tuple[float, ...]
    enough: int


class Point(NamedTuple):
    """A variant minus the baseline after so many images. low, high: the band, None before the first look. outcome:
    better and worse if the band excludes 0 and the difference is above the margin, equivalent if the band is within
    the margin, too early if both means are worse than a Gaussian's score, useless for a likelihood that a uniform guess
    would have."""

    images: int
    difference: float
    margin: float
    low: float | None
    high: float | None
    outcome: Outcome


class Against(NamedTuple):
    """A variant against the baseline, over the seeds of its last look."""

    variant: str
    seeds: tuple[int, ...]
    points: tuple[Point, ...]


class Curves(NamedTuple):
    """learned: of the baseline first. against: of the other variants that share two or more budgets with it."""

    metric: str
    baseline: str
    learned: tuple[Learned, ...]
    against: tuple[Against, ...]


def curves(study: Study, found: Mapping[str, Mapping[int, Run]], looks: Mapping[str, int | None]) -> Curves | None:
    """The curves of the primary metric, from runs by variant and seed; None if none has snapshots.

    looks: variant -> the number of seeds at its last complete look.
    """
    plan, settings = study.plan, study.settings.compare
    ordered = {name: [runs[seed] for seed in sorted(runs)] for name, runs in found.items()}
    learned = [each for name, runs in ordered.items() if (each := _learned(name, runs, plan.primary, settings))]
    against = []
    spent = Design(plan.looks, plan.spending).spent((1 - settings.confidence) / (len(plan.variants) - 1))
    for name in list(plan.variants)[1:]:
        look = looks.get(name)
        both = sorted(found.get(study.baseline, {}).keys() & found.get(name, {}).keys())[:look]
        pairs = [[found[which][seed] for seed in both] for which in (study.baseline, name)]
        images = budgets([run for runs in pairs for run in runs], plan.primary)
        if len(images) < 2:
            continue
        level = float(np.diff(spent, prepend=0)[plan.looks.index(look)]) if look else None
        before, after = (_scores(runs, images, plan.primary) for runs in pairs)
        gaussian = metrics.gaussian([run.scores for runs in pairs for run in runs], plan.primary)
        points = compared(before, after, images, plan.primary, settings, level, gaussian)
        against.append(Against(name, tuple(both), points))
    return Curves(plan.primary, study.baseline, tuple(learned), tuple(against)) if learned else None


def budgets(runs: Sequence[Run], metric: str) -> list[int]:
    """The numbers of images after which all runs have the score, in order."""
    known = [{images for images, scores in run.curve.items() if metric in scores} for run in runs]
    return sorted(set.intersection(*known)) if known else []


def compared(
    before: Array,
    after: Array,
    images: Sequence[int],
    metric: str,
    settings: Compare,
    level: float | None,
    gaussian: float | None = None,
) -> tuple[Point, ...]:
    """The points of scores (seeds, budgets), paired by row; ``level``: the error rate of the whole band, if any;
    ``gaussian``: the yardstick's score, if it has one."""
    gaps = after - before
    means = gaps.mean(0)
    halves = None if level is None else critical(gaps, level) * gaps.std(0, ddof=1) / math.sqrt(len(gaps))
    points = []
    for place, (at, difference) in enumerate(zip(images, means.tolist(), strict=True)):
        margin = metrics.margin(metric, float(before[:, place].mean()), settings)
        low = high = None
        outcome: Outcome = "open"
        if halves is not None:
            low, high = difference - float(halves[place]), difference + float(halves[place])
            if gaussian is not None and min(before[:, place].mean(), after[:, place].mean()) > gaussian:
                outcome = "too early"
            elif (low > 0 or high < 0) and abs(difference) > margin:
                outcome = "better" if metrics.gain(metric, difference) > 0 else "worse"
            elif -margin <= low and high <= margin:
                outcome = "equivalent"
        if metrics.is_useless(metric, float(after[:, place].mean())):
            outcome = "useless"
        points.append(Point(at, difference, margin, low, high, outcome))
    return tuple(points)


def critical(gaps: Array, level: float) -> float:
    """The |t| that the largest of the budgets' t exceeds with the chance ``level`` if nothing differs.

    gaps: (seeds, budgets) differences, for their correlation.
    """
    seeds, count = gaps.shape
    centred = gaps - gaps.mean(0)
    lengths = np.linalg.norm(centred, axis=0)
    units = centred / np.where(lengths > 0, lengths, 1.0)
    correlation = (1 - 1 / seeds) * units.T @ units
    np.fill_diagonal(correlation, 1.0)
    drawn = _normals(seeds, count) @ np.linalg.cholesky(correlation).T
    largest = (np.abs(drawn.mean(1)) / drawn.std(1, ddof=1)).max(-1) * math.sqrt(seeds)
    return float(np.quantile(largest, 1 - level))


@cache
def _normals(seeds: int, count: int) -> Array:
    return np.random.default_rng(0).standard_normal((DRAWS, seeds, count))


def _learned(variant: str, runs: Sequence[Run], metric: str, settings: Compare) -> Learned | None:
    images = budgets(runs, metric)
    if len(images) < 2:
        return None
    means = _scores(runs, images, metric).mean(0).tolist()
    margin = metrics.margin(metric, means[-1], settings)
    fine = (at for at, mean in zip(images, means, strict=True) if metrics.gain(metric, means[-1] - mean) <= margin)
    return Learned(variant, len(runs), tuple(images), tuple(means), next(fine))


def _scores(runs: Sequence[Run], images: Sequence[int], metric: str) -> Array:
    return np.array([[run.curve[at][metric] for at in images] for run in runs])


def headlines(found: Curves) -> list[str]:
    """A line for each comparison, and one for each variant: where more training stops paying."""
    against = [f"by budget, {each.variant}: {crossing(each, found.baseline)}" for each in found.against]
    return [*against, *(paying(each, found.metric) for each in found.learned)]


def crossing(each: Against, baseline: str) -> str:
    """Who leads where, and where they cross, as far as the band supports it."""
    names = {"better": each.variant, "worse": baseline}
    leads = [(point.images, names[point.outcome]) for point in each.points if point.outcome in names]
    runs = [(who, [at for at, _ in group]) for who, group in groupby(leads, key=lambda lead: lead[1])]
    parts = [f"{who} leads {_at(images)}" for who, images in runs]
    for outcome in ("equivalent", "too early", "useless", "open"):
        if rest := [point.images for point in each.points if point.outcome == outcome]:
            parts.append(f"{outcome} {_at(rest) if len(rest) < len(each.points) else 'at every budget'}")
    for (_, before), (_, after) in pairwise(runs):
        parts.append(f"they cross between {before[-1]:,} and {after[0]:,}")
    if len(runs) < 2:
        for one, other in pairwise(each.points):
            if one.difference * other.difference < 0 and "open" in (one.outcome, other.outcome):
                parts.append(f"the means cross between {one.images:,} and {other.images:,}, which the band leaves open")
    return "; ".join(parts)


def paying(each: Learned, metric: str) -> str:
    """Where more training stops paying, by the means alone."""
    *_, last = each.images
    title, gain = metrics.title(metric), metrics.gain(metric, each.means[-1] - each.means[-2])
    if each.enough < last:
        return (
            f"{each.variant}: more training stops paying after {each.enough:,} images: mean {title} there is within "
            f"the smallest gap that matters of the one after {last:,}, or better"
        )
    share = f" by {gain / abs(each.means[-2]):.0%}" if each.means[-2] else ""
    return f"{each.variant}: more training still pays: the last step, to {last:,} images, improves {title}{share}"


def note(study: Study) -> str:
    """What the bands hold for."""
    confidence = study.settings.compare.confidence
    return (
        f"by budget: the bands hold with the chance {confidence:.4g} at all budgets together (max-t), for all variants "
        "and at all looks of the plan; the verdict, which is about the end of training alone, has an error rate of its "
        f"own: the chance that either is false is up to {2 * (1 - confidence):.2g}"
    )


def titled(found: Curves) -> Iterator[tuple[str, Rows]]:
    """A table for each comparison: its title, and rows of cells, the heads first."""
    heads = ["images", "difference", "band", "margin", "at this budget"]
    for each in found.against:
        rows = []
        for point in each.points:
            band = "-" if point.low is None else f"{point.low:+.3g} to {point.high:+.3g}"
            cells = [f"{point.images:,}", f"{point.difference:+.3g}", band, f"{point.margin:.2g}", point.outcome]
            rows.append(cells)
        title = f"{each.variant} against {found.baseline} by budget, {found.metric}, {pairing.named(each.seeds)}"
        yield title, [heads, *rows]


def draw(found: Curves, path: Path) -> None:
    """Mean scores over images seen, and the differences from the baseline with their bands."""
    direction = metrics.direction(found.metric)
    means = {each.variant: np.array([each.images, each.means]).T for each in found.learned}
    options: dict[str, Any] = {"log": "x", "points": True}
    options["ticks"] = sorted({at for each in found.learned for at in each.images})
    title = f"mean over seeds ({direction} is better)"
    panels = [plots.Panel(title, "images seen", found.metric, means, **options)]
    gaps = {}
    for each in found.against:
        rows = [(p.images, p.difference, *(() if p.high is None else (p.high - p.difference,))) for p in each.points]
        gaps[each.variant] = np.array(rows)
    if gaps:
        title = f"difference from {found.baseline}, band over all budgets"
        zero = {"no difference": 0.0}
        panels.append(plots.Panel(title, "images seen", found.metric, gaps, zero, **options))
    plots.lines(path, panels)


def to_dict(found: Curves) -> dict[str, Any]:
    """For JSON."""
    against = [each._asdict() | {"points": [point._asdict() for point in each.points]} for each in found.against]
    return found._asdict() | {"learned": [each._asdict() for each in found.learned], "against": against}


def _at(images: Sequence[int]) -> str:
    *before, last = (f"{at:,}" for at in images)
    return f"at {', '.join(before)} and {last} images" if before else f"at {last} images"
