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
from typing import NamedTuple, Self

from ddpm.base.files import is_own, write_text
from ddpm.report import render
from ddpm.report.blocks import Block, Chapter, Chart, Figure, Levels, Mark, Note, Table, cell

PAGE = "page.html"
RELOAD = 5  # seconds
SHARE = 0.05  # of the time, at most, that goes into the page
TRIAL, FAILS, CHAMPION, FIND = "a trial, one run", "fails a guard", "the champion", "the best recipe"


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


def show_trials(
    tried: Sequence[Tried], axis: str, levels: Levels, ends: Sequence[tuple[str, str, Sequence[float]]]
) -> list[Block]:
    """A chart of the trials with the best so far, and a table, the best first. ends: what follows the trials, such as
    the claim and the proof: name, kind and scores."""
    marks, steps, least, last = list[Mark](), list[tuple[float, float]](), math.inf, len(tried)
    for one in tried:
        if one.score is not None:
            marks.append(Mark(one.number, one.score, f"trial {one.number}: {one.score:.4g}; {one.recipe}", one.kind))
            steps += [(one.number, steps[-1][1])] if steps else []
            if not one.fails and one.loss < least:
                least = one.loss
                steps.append((one.number, one.score))
    ticks: dict[float, str] = {number: str(number) for number in range(1, last + 1, 1 + last // 10)}
    for place, (name, kind, values) in enumerate(ends, 1):
        mean, at = fmean(values), last + (place - 0.4) * max(2.0, 0.17 * last)
        marks.append(Mark(at, mean, f"{name}: {mean:.4g}", kind, min(values), max(values)))
        ticks[at] = name
    kinds = {kind: kind for kind in (TRIAL, CHAMPION, FIND, FAILS)}
    caption = "The line is the best so far; a bar spans the seeds of the proof."
    ordered = sorted(tried, key=lambda one: (one.score is None, bool(one.fails), one.loss))
    rows = [[cell(one.number), cell(one.score), one.recipe, one.fails, f"{one.seconds:.0f}"] for one in ordered]
    title = "The best first, and without a score those that diverged; one run is no evidence"
    table = Table(["trial", axis, "recipe", "fails", "seconds"], rows, title, (2, 3))
    return [*([Chart(caption, axis, marks, kinds, levels, steps, ticks)] if marks else []), *([table] if rows else [])]


def show_sides(sides: Mapping[str, Mapping[int, float]], axis: str, levels: Levels) -> list[Block]:
    """A chart of scores by arm: side -> seed -> score."""
    kinds = {name: name for name, runs in sides.items() if runs}
    places = {seed: place for place, seed in enumerate(sorted({seed for runs in sides.values() for seed in runs}))}
    width = 0.7 / max(1, len(places) - 1)
    marks = [
        Mark(at + width * places[seed] - 0.35, score, f"{name}, seed {seed}: {score:.4g}", name)
        for at, (name, runs) in enumerate(sides.items())
        for seed, score in runs.items()
    ]
    ticks: dict[float, str] = dict(enumerate(sides))
    return [Chart("a dot for each training seed", axis, marks, kinds, levels, (), ticks)] if marks else []
