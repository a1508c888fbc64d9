"""Which of the tried values each variant enters the verdict with, and what the tries say.

A variant's values are those with the best mean of the primary metric over the tuning seeds; of equal means, those that
come first in the plan. So everybody who has the same results chooses the same values. The verdict's seeds are others:
what was lucky on the tuning seeds has no advantage there, and a verdict about the values chosen is as rarely false as
without tuning. It is no verdict about each arm's best value, because a few seeds often choose another one.

A value is left possible as an arm's best unless training diverged with it, or a one-sided paired t test over the tuning
seeds shows that the value chosen is better. All those tests together exclude the best value of any arm with a chance of
at most EXCLUDING times the error rate, for normal differences: each arm has an equal part, which is divided by the
number of its other values, because any of them might be the one chosen. ``claim: best`` takes that part from the
verdict's own tests (ddpm/study/best.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np

from ddpm.compare import metrics, statistics
from ddpm.compare.runs import grouped
from ddpm.compare.statistics import Array
from ddpm.compare.tables import Rows
from ddpm.pictures.plots import Panel
from ddpm.study.grid import Point, named
from ddpm.study.plan import Study

CHOSEN, POSSIBLE = "*", "?"
EXCLUDING = 0.2  # the share of the error rate that excluding values may spend
VARIANT = attrgetter("variant")


class Tried(NamedTuple):
    """A variant at one point of the grid. scores: of the primary metric, by tuning seed; nan where training diverged.
    mean: nan with such a score. behind: the interval of how much worse it is than the point chosen, in the metric's
    unit; nan where training diverged. possible: whether it may be the variant's best."""

    variant: str
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


def tries(study: Study, scores: Mapping[str, float]) -> tuple[Tried, ...]:
    """Every point of the variants that are done with tuning. scores: experiment -> the primary metric, nan if its
    training diverged."""
    lower, found = metrics.direction(study.plan.primary) == "lower", []
    alpha = 1 - study.settings.compare.confidence
    for variant, points in study.points.items():
        own = [each for each in study.tuning() if each.variant == variant]
        if not all(each.name in scores for each in own):
            continue
        table = np.array([scores[each.name] for each in own]).reshape(-1, len(points)).T
        place = int(best(table, lower))
        low, high = behind(table, lower, level(alpha, len(study.points), len(points)))
        for at, (point, row) in enumerate(zip(points, table, strict=True)):
            mean = float(row.mean()) if np.isfinite(row).all() else math.nan
            chosen = at == place and math.isfinite(mean)
            gap, possible = (float(low[at]), float(high[at])), bool(low[at] <= 0)
            found.append(Tried(variant, point.values, tuple(row.tolist()), mean, chosen, gap, possible))
    return tuple(found)


def chosen(study: Study, found: Sequence[Tried]) -> dict[str, Point]:
    """Variant -> its point, without those that have none."""
    return {
        each.variant: point
        for each in found
        for point in study.points[each.variant]
        if each.chosen and point.values == each.values
    }


def headline(found: Sequence[Tried]) -> list[str]:
    """What a verdict is about, and what it is not about; none without tuning."""
    if not found:
        return []
    points = _points(found)
    used = "; ".join(f"{each.variant} {_shown(each.values)}" for each in found if each.chosen)
    others = [f"{each.variant} {_shown(each.values)}" for each in found if each.possible and not each.chosen]
    return [
        f"each arm at the value that {_seeds(found)} chose from {len(points)} for {' and '.join(points[0])}: "
        f"{used or 'none yet'}; the verdict uses other seeds",
        f"these seeds do not exclude as an arm's best: {'; '.join(others)}"
        if others
        else "these seeds exclude all other values as an arm's best",
    ]


def notes(found: Sequence[Tried], metric: str) -> list[str]:
    """What to be careful about: no value that works, the best at an edge of the grid, a ranking that depends on it."""
    lines = []
    for variant, own in grouped(found, VARIANT).items():
        picked = next((each for each in own if each.chosen), None)
        if picked is None:
            lines.append(f"{variant}: left out: it has no {metric} at any of the values tried")
            continue
        if odd := [named(each.values) for each in own if not math.isfinite(each.mean)]:
            lines.append(f"{variant}: no {metric}, or training diverged, at {'; '.join(odd)}")
        for key, value in picked.values.items():
            values = [each.values[key] for each in own]
            if all(map(_is_number, values)) and value in (min(values), max(values)):
                edge = "largest" if value == max(values) else "smallest"
                lines.append(f"{variant}: chosen at {key} {value}, the {edge} tried: the grid may be too small")
    return [*lines, *_rankings(found, metric)]


def _rankings(found: Sequence[Tried], metric: str) -> list[str]:
    """Whether the variants' order depends on the values, by the means of the tuning runs."""
    tuned = _ranked({each.variant: each.mean for each in found if each.chosen}, metric)
    if len(tuned) < 2:
        return []
    other: dict[tuple[str, ...], list[str]] = {}
    for values in _points(found):
        means = {each.variant: each.mean for each in found if each.values == values and each.variant in tuned}
        if all(map(math.isfinite, means.values())) and (order := _ranked(means, metric)) != tuned:
            other.setdefault(order, []).append(named(values))
    if not other:
        return [f"the ranking of the variants in {metric} is the same at every value that all of them share"]
    shared = "; ".join(f"{', '.join(order)} at {' or '.join(at)}" for order, at in other.items())
    return [
        f"the ranking of the variants in {metric} depends on the values: best first, it is {', '.join(tuned)} with "
        f"the values chosen, but {shared} (means of {_seeds(found, 'tuning seed')}: no verdict)"
    ]


def _ranked(means: Mapping[str, float], metric: str) -> tuple[str, ...]:
    """The variants, best first."""
    sign = 1 if metrics.direction(metric) == "lower" else -1
    return tuple(sorted(means, key=lambda variant: sign * means[variant]))


def titled(found: Sequence[Tried], metric: str) -> list[tuple[str, Rows]]:
    """A table with a row for each variant and a column for each point; none without tuning. Next to each mean: the
    interval of how much worse it is than the one chosen."""
    if not found:
        return []
    points = _points(found)
    rows = [["variant", *map(_shown, points)]]
    for variant, own in grouped(found, VARIANT).items():
        rows.append([variant, *map(_mean, own)])
    signs = f"{CHOSEN} chosen; how much worse than that, as an interval; {POSSIBLE} possibly the best"
    return [(f"{metric} by {' and '.join(points[0])}, means of {_seeds(found, 'tuning seed')} ({signs})", rows)]


def panels(found: Sequence[Tried], metric: str) -> list[Panel]:
    """For each key with numbers, the metric over its values; with several keys, at the best values of the others."""
    made = []
    direction = metrics.direction(metric)
    pick = min if direction == "lower" else max
    finite = [each for each in found if math.isfinite(each.mean)]
    for key in found[0].values if finite else ():
        if not all(_is_number(each.values[key]) for each in found):
            continue
        curves = {}
        for variant, own in grouped(finite, VARIANT).items():
            values = sorted({each.values[key] for each in own})
            means = [pick(each.mean for each in own if each.values[key] == value) for value in values]
            curves[variant] = np.array([values, means]).T
        title = f"tuning ({direction} is better)"
        ticks = sorted({each.values[key] for each in found})
        made.append(Panel(title, key, metric, curves, log="x" if ticks[0] > 0 else "", points=True, ticks=ticks))
    return made


def to_dict(found: Sequence[Tried]) -> list[dict[str, Any]]:
    """For JSON, which has no nan."""
    return [
        {**each._asdict(), "mean": _number(each.mean)}
        | {key: [*map(_number, getattr(each, key))] for key in ("scores", "behind")}
        for each in found
    ]


def _points(found: Sequence[Tried]) -> list[Mapping[str, Any]]:
    return [each.values for each in found if each.variant == found[0].variant]


def _seeds(found: Sequence[Tried], what: str = "seed") -> str:
    count = len(found[0].scores)
    return f"{count} {what}{'s' * (count > 1)}"


def _shown(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{value}" for value in values.values())


def _mean(each: Tried) -> str:
    if not math.isfinite(each.mean):
        return "none"
    gap = CHOSEN if each.chosen else f" ({each.behind[0]:+.3g} to {each.behind[1]:+.3g}){POSSIBLE * each.possible}"
    return f"{each.mean:.4g}{gap}"


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
