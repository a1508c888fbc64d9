"""The atlas's tables by size: does what helps a small network help a larger one?

They are made from the studies size_DATA_WIDTH, whose plans differ in the width alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, groupby
from pathlib import Path
from textwrap import fill
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, bootstrap

from ddpm.model import build
from ddpm.pictures import plots
from ddpm.report.blocks import Figure, Markdown, Note, Table
from ddpm.study import loading
from ddpm.study.ledger import open_ledger
from ddpm.verdicts import statistics
from docs.atlas_text import CARRY_OVER, percent

PREFIX = "size_"  # of the studies' names
EARLY = "too early"
ERROR = 0.05  # of a table: the chance that any of its intervals misses


class Size(NamedTuple):
    """A study: one width. weights: of its baseline. cells: (arm, images) -> its effect, bold if that is a verdict.
    logs: the same -> seed -> ln(arm / baseline). early: those of which neither side is better than a Gaussian."""

    data: str
    weights: int
    cells: dict[tuple[str, int], str]
    logs: dict[tuple[str, int], dict[int, float]]
    early: set[tuple[str, int]]


class Trend(NamedTuple):
    """How an effect changes with the size: ln(arm / baseline) per tenfold of the weights, with its interval, and its
    value at the smallest and at the largest network on that line."""

    slope: float
    low: float
    high: float
    ends: tuple[float, float]

    @property
    def word(self) -> str:
        first, last = self.ends
        if self.low <= 0 <= self.high:
            return "open"
        if first * last < 0:
            return "flips"
        return "grows" if abs(last) > abs(first) else "fades"

    @property
    def cell(self) -> str:
        """The word, and what arm / baseline is multiplied by for ten times the weights."""
        low, middle, high = (f"{math.exp(end):.2f}" for end in (self.low, self.slope, self.high))
        return f"{self.word}: {middle} ({low}-{high})"


def trend(weights: Sequence[int], logs: Sequence[Mapping[int, float]], error: float) -> Trend:
    """A line through each seed's values at these sizes, and Student's interval over the seeds' slopes.

    logs: for each size, seed -> ln(arm / baseline); seeds that a size lacks are left out. error: the chance that the
    interval misses.
    """
    seeds = set(logs[0]).intersection(*logs)
    x = np.log10(weights)
    slopes, starts = np.polyfit(x, [[values[seed] for seed in seeds] for values in logs], 1)
    test = statistics.t_test(slopes, 0.0, 1 - error)
    first, last = (float((slopes * at + starts).mean()) for at in (x[0], x[-1]))
    return Trend(float(test.mean), float(test.low), float(test.high), (first, last))


def of_study(name: str, judged: Mapping[str, Any]) -> Size:
    """What a study by size found at each of its budgets: at the last by its verdicts, before by its curves.

    judged: its verdict.json.
    """
    curves = judged["curves"]
    ends = {verdict["arm"]: verdict for verdict in judged["verdicts"] if verdict["metric"] == judged["primary"]}
    ledger = open_ledger(loading.load(Path(f"studies/{name}.yaml")))
    baseline, *arms = ledger.arms()
    cells, logs, early = {}, {}, set()
    for arm, against in zip(arms, curves["against"], strict=True):
        points = against["points"]
        for point in points:
            at, key = point["images"], (arm.label, point["images"])
            outcome = (ends[arm.label] if point is points[-1] else point)["outcome"]
            before, after = (
                [side.runs[seed].scores_by_images[at][curves["metric"]] for seed in against["seeds"]]
                for side in (baseline, arm)
            )
            effect = percent(sum(after) / sum(before) - 1)
            early |= {key} if outcome == EARLY else set()
            cells[key] = f"**{effect}**" if outcome in ("better", "worse") else effect
            logs[key] = dict(zip(against["seeds"], np.log(after) - np.log(before), strict=True))
    return Size(name.split("_")[1], build.parameters(ledger.study.config), cells, logs, early)


def carry_over(ends: Sequence[tuple[Size, Size]]) -> str:
    """How many effects of the smallest network have the same sign in the largest, and the slope of the line through
    their logarithms.

    ends: both networks, for each data set. The line is the first principal axis, because both effects have errors of
    about one size. Its interval is a bootstrap over arms, with all their budgets.
    """
    keys = list(ends[0][0].logs)
    shape = (-1, len({images for _, images in keys}))
    small, large = (
        np.reshape([np.mean(list(pair[side].logs[key].values())) for pair in ends for key in keys], shape)
        for side in (0, 1)
    )

    def slope(arms: NDArray[np.integer]) -> float:
        run, rise = np.linalg.eigh(np.cov(small[arms].ravel(), large[arms].ravel())).eigenvectors[:, -1]
        return float(rise / run)

    arms = np.arange(len(small))
    same = small * large > 0
    late = np.reshape([all(key not in size.early for size in pair) for pair in ends for key in keys], shape)
    share = binomtest(int(same.sum()), same.size).proportion_ci(method="exact")
    line = bootstrap([arms], slope, vectorized=False, rng=0).confidence_interval
    first, last = (f"{size.weights:,}" for size in ends[0])
    return CARRY_OVER.format(
        same=same.sum(), all=same.size, first=first, last=last, low=share.low, high=share.high,
        late=late.sum(), late_same=(same & late).sum(), slope=slope(arms), slope_low=line.low, slope_high=line.high,
    )  # fmt: skip


def parts(studies: Mapping[str, Mapping[str, Any]]) -> Iterator[Note | Figure | Table]:
    """A picture and a table for each data set of several sizes: a row for each arm, two columns for each budget. Then
    how many signs carry over.

    studies: every study's verdict.json; only those by size are read.
    """
    for sizes in by_data(studies):
        data = sizes[0].data
        weights = [size.weights for size in sizes]
        arms, budgets = (list(dict.fromkeys(part)) for part in zip(*sizes[0].logs, strict=True))
        lines = []
        for arm in arms:
            line = [arm]
            for images in budgets:
                logs = [size.logs[arm, images] for size in sizes]
                effects = ", ".join(size.cells[arm, images] for size in sizes)
                early = any((arm, images) in size.early for size in sizes)
                change = EARLY if early else trend(weights, logs, ERROR / len(sizes[0].logs)).cell
                line += [Markdown(effects), change]
            lines.append(line)
        heads = chain.from_iterable((f"{images:,} images", "with size") for images in budgets)
        at = ", ".join(f"{size.weights:,}" for size in sizes)
        yield Note(Markdown(f"**{data}**, at {at} weights"))
        yield Figure("each arm's score over the default's", f"by-size-{data}", partial(draw, sizes=sizes))
        yield Table(["arm", *heads], lines, text_columns=range(1 + 2 * len(budgets)))
    ends = [(sizes[0], sizes[-1]) for sizes in by_data(studies)]
    yield Note(Markdown(fill(carry_over(ends), 120, break_on_hyphens=False)))


def by_data(studies: Mapping[str, Mapping[str, Any]]) -> list[list[Size]]:
    """The studies by size, smallest network first, of each data set that has several."""
    every = [of_study(name, judged) for name, judged in studies.items() if name.startswith(PREFIX) and judged["curves"]]
    ordered = sorted(every, key=lambda size: (size.data, size.weights))
    groups = [list(group) for _, group in groupby(ordered, lambda size: size.data)]
    return [sizes for sizes in groups if len(sizes) > 1]  # no line goes through one


def draw(path: Path, sizes: Sequence[Size]) -> None:
    """A panel for each budget, a line for each arm: the geometric mean of its ratios to the baseline, by weights."""
    weights = [size.weights for size in sizes]
    curves: dict[int, dict[str, plots.Curve]] = {}
    for arm, images in sizes[0].logs:
        ratios = [math.exp(np.mean(list(size.logs[arm, images].values()))) for size in sizes]
        curves.setdefault(images, {})[arm] = np.column_stack([weights, ratios])
    label, level = "Fréchet distance / the default's", {"default": 1.0}
    panels = [
        plots.Panel(f"{sizes[0].data}, {images:,} images", "weights", label, of_budget, level, log="x", ticks=weights)
        for images, of_budget in curves.items()
    ]
    plots.lines(path, panels)
