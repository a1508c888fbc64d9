"""How arms compare at each budget: the snapshots of a training, and its end.

A band holds at all budgets at once: its half-width is a multiple c of each budget's standard error, and c is the upper
quantile of the largest |t| over the budgets (max-t: Hothorn, Bretz & Westfall 2008). It is simulated for normal
differences with the observed correlation between budgets, shrunk by 1 / seeds because few seeds estimate it: budgets of
one training are much alike, so c is well below Bonferroni's. The arms share the error rate equally, and each look gets
what it adds (``Design.spent``), so that a band holds whichever look it is read at. This error rate is the curves' own:
the study's verdict is about the end alone, and its rule does not depend on them. So the chance that anything on the
page is false is up to twice that of the verdict alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Literal, NamedTuple

import numpy as np

from ddpm.runs.record import Record
from ddpm.verdicts import metrics
from ddpm.verdicts.pairing import Arm, partners
from ddpm.verdicts.statistics import Array
from ddpm.verdicts.verdict import Known, Pair, Rules

DRAWS = 2**14  # of the largest |t|; c is then off by less than 2%

AtBudget = Literal["better", "worse", "equivalent", "too early", "useless", "open"]


class Learned(NamedTuple):
    """One arm's mean score at each budget it was scored at."""

    arm: str
    seeds: int
    images: tuple[int, ...]
    means: tuple[float, ...]


class BudgetPoint(NamedTuple):
    """An arm minus the baseline after so many images. low, high: the band, None before the first look. outcome:
    better and worse if the band excludes 0 and the difference is above the margin, equivalent if the band is within
    the margin, too early if both means are worse than a Gaussian's score, useless for a likelihood that a uniform guess
    would have."""

    images: int
    difference: float
    margin: float
    low: float | None
    high: float | None
    outcome: AtBudget


class Against(NamedTuple):
    """An arm against the baseline, over the seeds of its last look."""

    arm: str
    seeds: tuple[int, ...]
    points: tuple[BudgetPoint, ...]


class Curves(NamedTuple):
    """learned: of the baseline first. against: of the other arms that share two or more budgets with it."""

    metric: str
    baseline: str
    learned: tuple[Learned, ...]
    against: tuple[Against, ...]


def curves(arms: Sequence[Arm], looks: Mapping[str, int | None], rules: Rules) -> Curves | None:
    """The curves of the primary metric, the baseline's first; None if no arm has snapshots.

    looks: label -> the number of seeds at the arm's last complete look.
    """
    primary, design = rules.names[0], rules.design
    learned = [curve for arm in arms if (curve := _learned(arm, primary))]
    against = []
    spent = np.diff(design.spent(rules.alpha / rules.pairs), prepend=0)
    baseline, *others = arms
    for arm in others:
        look = looks.get(arm.label)
        pair = partners(baseline, arm)
        pair = pair._replace(before=pair.before[:look], after=pair.after[:look])
        images = budgets(pair.runs, primary)
        if len(images) > 1:
            level = float(spent[design.looks.index(look)]) if look else None
            points = compared(pair, images, primary, rules.known, level)
            against.append(Against(arm.label, tuple(run.seed or 0 for run in pair.after), points))
    return Curves(primary, baseline.label, tuple(learned), tuple(against)) if learned else None


def budgets(runs: Sequence[Record], metric: str) -> list[int]:
    """The numbers of images after which all runs have the score, in order."""
    known = [{images for images, scores in run.learned.items() if metric in scores} for run in runs]
    return sorted(set.intersection(*known)) if known else []


def compared(
    pair: Pair[Record], images: Sequence[int], metric: str, known: Known, level: float | None
) -> tuple[BudgetPoint, ...]:
    """The arm against the baseline after each of ``images``. level: the error rate of the whole band, if any."""
    before, after = (_scores(runs, images, metric) for runs in (pair.before, pair.after))
    gaps, gaussian = after - before, metrics.gaussian([run.scores for run in pair.runs], metric)
    halves = None if level is None else critical(gaps, level) * gaps.std(0, ddof=1) / math.sqrt(len(gaps))
    points = []
    for place, (at, difference) in enumerate(zip(images, gaps.mean(0).tolist(), strict=True)):
        margin = known.margin(metric, float(before[:, place].mean()))
        low = high = None
        outcome: AtBudget = "open"
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
        points.append(BudgetPoint(at, difference, margin, low, high, outcome))
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


def _learned(arm: Arm, metric: str) -> Learned | None:
    runs = [arm.runs[seed] for seed in sorted(arm.runs)]
    images = budgets(runs, metric)
    if len(images) < 2:
        return None
    return Learned(arm.label, len(runs), tuple(images), tuple(_scores(runs, images, metric).mean(0).tolist()))


def _scores(runs: Sequence[Record], images: Sequence[int], metric: str) -> Array:
    return np.array([[run.learned[at][metric] for at in images] for run in runs])
