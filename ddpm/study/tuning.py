"""Which of the tried values each variant enters the verdict with, and what the tries say.

A variant's values are those with the best mean of the primary metric over the tuning seeds; of equal means, those that
come first in the plan. So everybody who has the same results chooses the same values. The verdict's seeds are others:
what was lucky on the tuning seeds has no advantage there, and a verdict is as rarely false as without tuning.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np

from ddpm.compare import metrics
from ddpm.compare.runs import grouped
from ddpm.compare.statistics import Array
from ddpm.compare.tables import Rows
from ddpm.pictures.plots import Panel
from ddpm.study.grid import Point, named
from ddpm.study.plan import Study

CHOSEN = "*"
VARIANT = attrgetter("variant")


class Tried(NamedTuple):
    """A variant at one point of the grid. scores: of the primary metric, by tuning seed; nan where training diverged.
    mean: nan with such a score."""

    variant: str
    values: Mapping[str, Any]
    scores: tuple[float, ...]
    mean: float
    chosen: bool


def best(scores: Array, lower: bool) -> Array:
    """The place of the best mean over seeds, the first of equal ones: (..., points, seeds) -> (...).

    A point with a score that is no number is worse than any other. lower: whether low scores are good.
    """
    costs = np.where(np.isfinite(scores), scores if lower else -scores, np.inf)
    return costs.mean(-1).argmin(-1)


def tries(study: Study, scores: Mapping[str, float]) -> tuple[Tried, ...]:
    """Every point of the variants that are done with tuning. scores: experiment -> the primary metric, nan if its
    training diverged."""
    lower, found = metrics.direction(study.plan.primary) == "lower", []
    for variant, points in study.points.items():
        own = [each for each in study.tuning() if each.variant == variant]
        if not all(each.name in scores for each in own):
            continue
        table = np.array([scores[each.name] for each in own]).reshape(-1, len(points)).T
        place = int(best(table, lower))
        for at, (point, row) in enumerate(zip(points, table, strict=True)):
            mean = float(row.mean()) if np.isfinite(row).all() else math.nan
            chosen = at == place and math.isfinite(mean)
            found.append(Tried(variant, point.values, tuple(row.tolist()), mean, chosen))
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
    """What a verdict is about, in one sentence; none without tuning."""
    if not found:
        return []
    points = _points(found)
    used = "; ".join(f"{each.variant} {_shown(each.values)}" for each in found if each.chosen)
    return [
        f"each variant at its best {' and '.join(points[0])} of {len(points)}, chosen on {_seeds(found)} that the "
        f"verdict does not use: {used or 'none yet'}"
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
                lines.append(f"{variant}: best at {key} {value}, the {edge} tried: the grid may be too small")
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
        f"each at its best, but {shared} (means of {_seeds(found, 'tuning seed')}: no verdict)"
    ]


def _ranked(means: Mapping[str, float], metric: str) -> tuple[str, ...]:
    """The variants, best first."""
    sign = 1 if metrics.direction(metric) == "lower" else -1
    return tuple(sorted(means, key=lambda variant: sign * means[variant]))


def titled(found: Sequence[Tried], metric: str) -> list[tuple[str, Rows]]:
    """A table with a row for each variant and a column for each point; none without tuning."""
    if not found:
        return []
    points = _points(found)
    rows = [["variant", *map(_shown, points)]]
    for variant, own in grouped(found, VARIANT).items():
        rows.append([variant, *(_mean(each) + CHOSEN * each.chosen for each in own)])
    return [(f"{metric} by {' and '.join(points[0])}, means of {_seeds(found, 'tuning seed')} ({CHOSEN} chosen)", rows)]


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
        {**each._asdict(), "scores": [_number(score) for score in each.scores], "mean": _number(each.mean)}
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
    return f"{each.mean:.4g}" if math.isfinite(each.mean) else "none"


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
