"""How arms compare at each budget: the snapshots of a training, and its end.

A band holds at all budgets at once: its half-width is a multiple c of each budget's standard error, and c is the upper
quantile of the largest |t| over the budgets (max-t: Hothorn, Bretz & Westfall 2008). It is simulated for normal
differences with the observed correlation between budgets, shrunk by 1 / seeds because few seeds estimate it: budgets of
one training are much alike, so c is well below Bonferroni's. The arms share the error rate equally, and each look gets
what it adds (``Design.budget``), so that a band holds whichever look it is read at. This error rate is the curves' own:
the study's verdict is about the end alone, and its rule does not depend on them. So the chance that anything on the
page is false is up to twice that of the verdict alone.
"""

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np

from ddpm.verdicts.arms import Arm, Pair, partners
from ddpm.verdicts.statistics import Array
from ddpm.verdicts.verdict import Known, Rules

DRAWS = 2**14  # of the largest |t|; c is then off by less than 2%

AtBudget = Literal["better", "worse", "equivalent", "too early", "useless", "open"]


class Learned(NamedTuple):
    """One arm's mean score at each of its budgets."""

    arm: str
    seeds: int
    images: tuple[int, ...]
    means: tuple[float, ...]


class BudgetPoint(NamedTuple):
    """An arm minus the baseline at one budget."""

    images: int  # seen in training
    difference: float
    margin: float
    low: float | None  # the band; None before the first look
    high: float | None
    # better or worse if the band excludes 0 and the difference is above the margin, equivalent if the band is within
    # the margin, too early if both means are worse than a Gaussian's score, useless if a likelihood is no better than a
    # uniform guess's
    outcome: AtBudget


class Against(NamedTuple):
    """An arm against the baseline, over the seeds of its last look."""

    arm: str
    seeds: tuple[int, ...]
    points: tuple[BudgetPoint, ...]


class Curves(NamedTuple):
    """One metric over training."""

    metric: str
    baseline: str
    learned: tuple[Learned, ...]  # the baseline's first
    against: tuple[Against, ...]  # of the other arms that share two or more budgets with it


def measure_curves(arms: Sequence[Arm], looks: Mapping[str, int | None], rules: Rules) -> Curves | None:
    """The curves of the primary metric, the baseline's first; None if no arm has snapshots.

    looks: label -> the number of seeds at the arm's last complete look.
    """
    primary, design = rules.names[0], rules.design
    learned, against = [], []
    for arm in arms:
        runs = [arm.runs[seed] for seed in sorted(arm.runs)]
        if len(images := shared_budgets(runs, primary)) > 1:
            means = _scores(runs, images, primary).mean(0).tolist()
            learned.append(Learned(arm.label, len(runs), tuple(images), tuple(means)))
    spent = np.diff(design.budget(rules.alpha / rules.pairs), prepend=0)
    baseline, *others = arms
    for arm in others:
        look = looks.get(arm.label)
        pair = partners(baseline, arm)
        pair = pair._replace(before=pair.before[:look], after=pair.after[:look])
        images = shared_budgets(pair.runs, primary)
        if len(images) > 1:
            level = float(spent[design.looks.index(look)]) if look else None
            points = compare_budgets(pair, images, primary, rules.known, level)
            against.append(Against(arm.label, tuple(run.seed or 0 for run in pair.after), points))
    return Curves(primary, baseline.label, tuple(learned), tuple(against)) if learned else None


def shared_budgets(runs: Sequence[Any], metric: str) -> list[int]:
    """The numbers of images seen at which all runs have the score, in order."""
    known = [{images for images, scores in run.scores_by_images.items() if metric in scores} for run in runs]
    return sorted(set.intersection(*known)) if known else []


def compare_budgets(
    pair: Pair, images: Sequence[int], metric: str, known: Known, level: float | None
) -> tuple[BudgetPoint, ...]:
    """The arm against the baseline at each number of ``images``. level: the error rate of the band; None: no band."""
    before, after = (_scores(runs, images, metric) for runs in (pair.before, pair.after))
    gaps = after - before
    halves = None if level is None else simulate_critical(gaps, level) * gaps.std(0, ddof=1) / math.sqrt(len(gaps))
    points = []
    for place, (at, difference) in enumerate(zip(images, gaps.mean(0).tolist(), strict=True)):
        means = float(before[:, place].mean()), float(after[:, place].mean())
        margin, forbidden = known.margin(metric, means[0]), known.forbids_means(pair, metric, *means)
        low = high = None
        outcome: AtBudget = "open"
        if halves is not None:
            low, high = difference - float(halves[place]), difference + float(halves[place])
            if forbidden:
                outcome = forbidden
            elif (low > 0 or high < 0) and abs(difference) > margin:
                outcome = "better" if (difference > 0) == (known.direction(metric) == "higher") else "worse"
            elif -margin <= low and high <= margin:
                outcome = "equivalent"
        if forbidden == "useless":  # without a band, too
            outcome = forbidden
        points.append(BudgetPoint(at, difference, margin, low, high, outcome))
    return tuple(points)


def simulate_critical(gaps: Array, level: float) -> float:
    """The |t| that the largest of the budgets' t exceeds with the chance ``level`` if nothing differs.

    gaps: (seeds, budgets) differences, for their correlation.
    """
    seeds, count = gaps.shape
    centred = gaps - gaps.mean(0)
    lengths = np.linalg.norm(centred, axis=0)
    units = centred / np.where(lengths > 0, lengths, 1.0)
    correlation = (1 - 1 / seeds) * units.T @ units
    np.fill_diagonal(correlation, 1.0)
    root, (means, covariances) = np.linalg.cholesky(correlation), _draw_moments(seeds, count)
    variances = (root @ covariances * root).sum(-1)
    largest = (np.abs(means @ root.T) / np.sqrt(variances)).max(-1) * math.sqrt(seeds)
    return float(f"{np.quantile(largest, 1 - level):.9g}")  # products of matrices depend on the processor


@cache
def _draw_moments(seeds: int, count: int) -> tuple[Array, Array]:
    """The means, (DRAWS, count), and the covariances, (DRAWS, count, count), of samples of independent normals."""
    drawn = np.random.default_rng(0).standard_normal((DRAWS, seeds, count))
    means = drawn.mean(1)
    drawn -= means[:, None]
    return means, drawn.transpose(0, 2, 1) @ drawn / (seeds - 1)


def _scores(runs: Sequence[Any], images: Sequence[int], metric: str) -> Array:
    return np.array([[run.scores_by_images[at][metric] for at in images] for run in runs])
