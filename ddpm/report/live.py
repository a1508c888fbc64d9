"""A page that is rewritten while something runs, and what is on it: pictures side by side, and trials.

It is one file that needs no server. The browser reads it again every RELOAD seconds as long as something runs.
"""

import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Literal, NamedTuple, Self, TypeAlias

import numpy as np

from ddpm.base.files import is_own, write_text
from ddpm.pictures import plots
from ddpm.pictures.plots import Panel
from ddpm.report import render
from ddpm.report.blocks import Block, Chapter, Figure, Note, Table, cell

PAGE = "page.html"
RELOAD = 5  # seconds
SHARE = 0.05  # of the time, at most, that goes into the page
WIDE = 8  # the ratio of the highest score to the lowest from which their axis is logarithmic
TRIAL, FAILS, CHAMPION, FIND = "a trial, one run", "fails a guard", "the champion", "the best recipe"
BEST = "the best so far"

Levels: TypeAlias = Mapping[str, float | None]  # by name; None: not known
Point: TypeAlias = tuple[float, float, float, float]  # x, y, and the ends of a bar


class Live:
    """A page that ``command`` keeps up to date. A context: when it is left early, the page says so, and a browser no
    longer reads it again."""

    def __init__(self, path: Path, title: str, command: str, say: Callable[[str], None]):
        self.path, self.title, self.command, self.say = path, title, command, say
        self.due = 0.0
        self.chapters: Sequence[Chapter] = ()

    def __call__(self, build: Callable[[], Sequence[Chapter]]) -> None:
        """Write the page, unless that would take more than SHARE of the time."""
        if (begin := time.perf_counter()) >= self.due:
            if not self.chapters:
                self.say(f"to look at while it runs: {self.path.resolve().as_uri()}")
            self.chapters = build()
            self._write(RELOAD)
            self.due = begin + (time.perf_counter() - begin) / SHARE

    def end(self, chapters: Sequence[Chapter]) -> None:
        """Write the complete page."""
        self.chapters = chapters
        self._write(0)

    def _write(self, reload: int) -> None:
        write_text(self.path, render.html(self.title, self.command, self.chapters, reload))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind and self.chapters:
            self.end([Chapter("", [Note("stopped: run the same command again to continue", True)]), *self.chapters])


def side_by_side(pictures: Mapping[str, Path], narrow: bool = True) -> list[Block]:
    """The pictures that are here, by caption."""
    return [
        Figure(caption, path.stem, partial(shutil.copyfile, path), narrow)
        for caption, path in pictures.items()
        if is_own(path)
    ]


class Tried(NamedTuple):
    """A trial: its recipe in words, its score, None if its training diverged, what a search makes small, the guards
    that it fails, its seconds, and which of the four kinds it is."""

    number: int
    recipe: str
    score: float | None
    loss: float
    fails: str
    seconds: float
    kind: str


def show_trials(tried: Sequence[Tried], axis: str, levels: Levels, ends: Mapping[str, Sequence[float]]) -> list[Block]:
    """A plot of the trials with the best so far, and a table, the best first. ends: the scores of what follows the
    trials, such as the claim and the proof."""
    curves: dict[str, list[Point]] = {kind: [] for kind in (TRIAL, CHAMPION, FIND, FAILS)}
    best, steps, last = math.inf, list[Point](), len(tried)
    for one in tried:
        if one.score is not None:
            curves[one.kind].append(_point(one.number, [one.score]))
            if not one.fails and one.loss < best:
                best = one.loss
                steps.append(_point(one.number, [one.score]))
    curves |= {name: [_point(1.1 * last + at, scores)] for at, (name, scores) in enumerate(ends.items()) if scores}
    steps += [(last, *step[1:]) for step in steps[-1:]]
    caption = "The line is the best so far; a bar spans the seeds of the proof."
    drawn = _draw(caption, ("trial", axis), curves, levels, range(1, last + 1), steps)
    ordered = sorted(tried, key=lambda one: (one.score is None, bool(one.fails), one.loss))
    rows = [[cell(one.number), cell(one.score), one.recipe, one.fails, f"{one.seconds:.0f}"] for one in ordered]
    title = "The best first, and without a score those that diverged; one run is no evidence"
    table = Table(["trial", axis, "recipe", "fails", "seconds"], rows, title, (2, 3))
    return [*drawn, table] if rows else drawn


def show_sides(sides: Mapping[str, Mapping[int, float]], axis: str, levels: Levels) -> list[Block]:
    """A plot of scores by arm: side -> seed -> score."""
    curves = {name: [_point(seed, [score]) for seed, score in runs.items()] for name, runs in sides.items()}
    seeds = sorted({seed for runs in sides.values() for seed in runs})
    return _draw("a dot for each training seed", ("training seed", axis), curves, levels, seeds)


def _point(x: float, scores: Sequence[float]) -> Point:
    return x, fmean(scores), min(scores), max(scores)


def _draw(
    caption: str,
    axes: tuple[str, str],
    points: Mapping[str, Sequence[Point]],
    levels: Levels,
    ticks: Sequence[int],
    steps: Sequence[Point] = (),
) -> list[Block]:
    """A plot of the points by name, if there are any, with about ten of the ticks. steps: a line, the best so far."""
    curves = {name: np.array(curve) for name, curve in {**points, BEST: steps}.items() if curve}
    known = {name: level for name, level in levels.items() if level is not None}
    if not curves:
        return []
    scores = [*known.values(), *(point[1] for curve in points.values() for point in curve)]
    log: Literal["", "y"] = "y" if 0 < WIDE * min(scores) < max(scores) else ""
    panel = Panel("", *axes, curves, known, log, ticks[:: 1 + len(ticks) // 10], steps=True, points=[*points])
    return [Figure(caption, "runs", partial(plots.lines, panels=[panel]))]
