"""Which of the tried values each arm enters the verdict with, and what the tries say.

An arm's values are those with the best mean of the primary metric over the tuning seeds; of equal means, those that
come first in the plan. So everybody who has the same results chooses the same values. The verdict's seeds are others:
what was lucky on the tuning seeds has no advantage there, and a verdict about the values chosen is as rarely false as
without tuning. It is no verdict about each arm's best value, because a few seeds often choose another one.

A value is left possible as an arm's best unless training diverged with it, or a one-sided paired t test over the tuning
seeds shows that the value chosen is better. All those tests together exclude the best value of any arm with a chance of
at most EXCLUDING times the error rate, for normal differences: each arm has an equal part, which is divided by the
number of its other values, because any of them might be the one chosen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ddpm.verdicts import metrics, statistics
from ddpm.verdicts.statistics import Array

EXCLUDING = 0.2  # of the error rate


class Tried(NamedTuple):
    """An arm at one point of the grid. scores: of the primary metric, by tuning seed; nan where training diverged.
    mean: nan with such a score. behind: the interval of how much worse it is than the point chosen, in the metric's
    unit; nan where training diverged. possible: whether it may be the arm's best."""

    arm: str
    values: Mapping[str, Any]
    scores: tuple[float, ...]
    mean: float
    chosen: bool
    behind: tuple[float, float] = (math.nan, math.nan)
    possible: bool = True


def best(scores: Array, lower: bool) -> Array:
    """The place of the best mean over seeds, the first of equal ones: (..., points, seeds) -> (...).

    A point with a score that is no number is worse than any other. lower: whether low scores are good.
    """
    costs = np.where(np.isfinite(scores), scores if lower else -scores, np.inf)
    return costs.mean(-1).argmin(-1)


def behind(scores: Array, lower: bool, level: float) -> tuple[Array, Array]:
    """Both ends of the interval of how much worse each point is than the one with the best mean, paired by seed:
    (..., points, seeds) -> two of (..., points). It is nan where a score is no number.

    level: the chance that the lower end is above the true gap, for normal differences; the same for the upper end.
    """
    costs = np.where(np.isfinite(scores), scores if lower else -scores, np.nan)
    gaps = costs - np.take_along_axis(costs, best(scores, lower).astype(int)[..., None, None], -2)
    test = statistics.t_test(gaps, 0.0, 1 - 2 * level)
    return test.low, test.high


def level(alpha: float, arms: int, points: int) -> float:
    """What each test of a value may spend of the error rate alpha, so that all of them exclude no arm's best."""
    return alpha * EXCLUDING / (arms * (points - 1))


def tries(
    grid: Sequence[Mapping[str, Any]], scores: Mapping[str, Array], metric: str, alpha: float, arms: int
) -> tuple[Tried, ...]:
    """Every point of the arms that are done with tuning.

    scores: arm -> the metric (points, seeds), nan where training diverged. arms: how many are tuned in all.
    """
    lower, rows = metrics.direction(metric) == "lower", []
    for arm, table in scores.items():
        place = int(best(table, lower))
        low, high = behind(table, lower, level(alpha, arms, len(grid)))
        for at, (values, row) in enumerate(zip(grid, table, strict=True)):
            mean = float(row.mean()) if np.isfinite(row).all() else math.nan
            is_best = at == place and math.isfinite(mean)
            gap, possible = (float(low[at]), float(high[at])), bool(low[at] <= 0)
            rows.append(Tried(arm, values, tuple(row.tolist()), mean, is_best, gap, possible))
    return tuple(rows)


def points(tried: Sequence[Tried]) -> list[Mapping[str, Any]]:
    """The points of the grid, in the plan's order."""
    return [row.values for row in tried if row.arm == tried[0].arm]


def named(values: Mapping[str, Any]) -> str:
    """Keys and values as text, for a message."""
    return ", ".join(f"{key} {value}" for key, value in values.items())
