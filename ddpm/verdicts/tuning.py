"""Which of the tried values each arm enters the verdict with, and what the tries say.

An arm's values are those with the best mean of the primary metric over the tuning seeds; of equal means, those that
come first in the plan. So everybody who has the same results chooses the same values. The verdict has other seeds:
what was lucky on the tuning seeds has no advantage there, and a verdict about the values chosen is as rarely false as
without tuning. It is not a verdict about each arm's best value, because a few seeds often choose another one.

A value is left possible as an arm's best unless training diverged with it, or a one-sided paired t test over the tuning
seeds shows that the value chosen is better. All those tests together exclude the best value of any arm with a chance of
at most EXCLUDING times the error rate, for normal differences: each arm has an equal part, which is divided by the
number of its other values, because any of them might be the one chosen.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ddpm.verdicts import statistics
from ddpm.verdicts.statistics import Array
from ddpm.verdicts.verdict import Direction

EXCLUDING = 0.2  # of the error rate


class Tried(NamedTuple):
    """An arm at one point of the grid."""

    arm: str
    values: Mapping[str, Any]
    scores: tuple[float, ...]  # of the primary metric, by tuning seed; nan where training diverged
    mean: float  # nan if one of the scores is
    chosen: bool
    # the interval of how much worse it is than the point chosen, in the metric's unit; nan if the mean is
    behind: tuple[float, float] = (math.nan, math.nan)
    possible: bool = True  # whether it may be the arm's best


def best(costs: Array, alpha: float, arms: int) -> tuple[Array, Array, Array]:
    """The place of the lowest mean over seeds, and both ends of the interval of how much worse each point is, paired by
    seed: (..., points, seeds) -> (...), (..., points), (..., points).

    Of equal means the first is the best. A point with a nan is worse than any other, and its interval is nan. For
    normal differences, the lower end is above the true gap at any point of any of the ``arms`` with a chance of at most
    EXCLUDING of ``alpha``, the error rate.
    """
    place = np.where(np.isnan(costs), np.inf, costs).mean(-1).argmin(-1)
    gaps = costs - np.take_along_axis(costs, np.asarray(place)[..., None, None], -2)
    level = alpha * EXCLUDING / (arms * (costs.shape[-2] - 1))
    test = statistics.t_test(gaps, 0.0, 1 - 2 * level)
    return place, test.low, test.high


def tries(
    grid: Sequence[Mapping[str, Any]], scores: Mapping[str, Array], direction: Direction, alpha: float, arms: int
) -> tuple[Tried, ...]:
    """Every point of the arms that are done with tuning.

    scores: arm -> the metric (points, seeds), nan where training diverged. direction: the better one. arms: how many
    are tuned in all.
    """
    rows, sign = [], 1.0 if direction == "lower" else -1.0
    for arm, table in scores.items():
        place, lows, highs = best(sign * table, alpha, arms)
        for at, (values, row, low, high) in enumerate(zip(grid, table, lows, highs, strict=True)):
            mean = float(row.mean())
            chosen = bool(at == place) and math.isfinite(mean)
            behind = float(low), float(high)
            rows.append(Tried(arm, values, tuple(row.tolist()), mean, chosen, behind, bool(low <= 0)))
    return tuple(rows)


def points(tried: Sequence[Tried]) -> list[Mapping[str, Any]]:
    """The points of the grid, in the plan's order."""
    return [row.values for row in tried if row.arm == tried[0].arm]


def name_values(values: Mapping[str, Any]) -> str:
    """Keys and values as text, for a message."""
    return ", ".join(f"{key} {value}" for key, value in values.items())
