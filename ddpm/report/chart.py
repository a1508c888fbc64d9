"""Where a page draws the marks of a chart: in units of its viewBox, with 0 at the top."""

import math
from collections.abc import Iterator
from typing import Any

from ddpm.report.blocks import Chart

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 480, 240, 48, 455, 26, 216
WIDE = 8  # the ratio of the highest to the lowest from which the y axis is logarithmic
COLOURS = 6  # of page.css; more kinds begin again


def place(chart: Chart) -> dict[str, Any]:
    """The size of the chart, the functions from its values to places, and the ``rows`` that have a tick. A chart has a
    mark at least, and its values are finite."""
    values = [*chart.levels.values(), *(y for mark in chart.marks for y in (mark.y, mark.low, mark.high))]
    xs, ys = [mark.x for mark in chart.marks] + [*chart.ticks], [value for value in values if value is not None]
    is_log = min(ys) > 0 and max(ys) > WIDE * min(ys)
    scale = math.log if is_log else float
    low, high = scale(min(ys)), scale(max(ys))
    edge = 0.06 * (high - low) or abs(high) * 0.1 or 1.0
    low, high = low - edge, high + edge
    first, last = min(xs) - 0.5, max(xs) + 0.5

    def x(value: float) -> float:
        return round(LEFT + (value - first) / (last - first) * (RIGHT - LEFT), 1)

    def y(value: float) -> float:
        return round(BOTTOM - (scale(value) - low) / (high - low) * (BOTTOM - TOP), 1)

    rows = [*(_log_ticks(low, high) if is_log else _ticks(low, high))]
    size = {"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": RIGHT}
    colours = {kind: place % COLOURS for place, kind in enumerate(chart.kinds)}
    return {**size, "x": x, "y": y, "rows": rows, "colours": colours}


def _ticks(low: float, high: float) -> Iterator[float]:
    """About five round values."""
    rough = (high - low) / 6
    unit = 10.0 ** math.floor(math.log10(rough))
    step = unit * next(factor for factor in (1, 2, 5, 10) if factor * unit >= rough)
    yield from (round(number * step, 12) for number in range(math.ceil(low / step), math.floor(high / step) + 1))


def _log_ticks(low: float, high: float) -> Iterator[float]:
    """1, 2 and 5 times the powers of 10 between the exponentials of both; the powers alone beyond three decades."""
    decades = range(math.floor(low / math.log(10)), math.ceil(high / math.log(10)) + 1)
    factors = (1, 2, 5) if high - low < 3 * math.log(10) else (1,)
    values = (float(f"{factor}e{decade}") for decade in decades for factor in factors)
    yield from (value for value in values if low <= math.log(value) <= high)
