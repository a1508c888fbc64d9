"""The picture of a ladder: what was tried, in order, and the steps that the champion took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ddpm.base.files import atomic_path

RUNG, REFUSED = "#0072b2", "#999999"


@dataclass(frozen=True)
class Point:
    """An attempt: its number, value, the ends of its interval (the value itself if unknown), and whether it is a rung
    that stands."""

    attempt: int
    value: float
    low: float
    high: float
    rung: bool


def draw(path: Path, panels: Sequence[tuple[str, Sequence[Point], float | None]]) -> None:
    """A panel for each title, with its points and, unless None, the value of the start or the target as a line."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(5.6 * len(panels), 3.8), layout="constrained")
    for axes, (title, points, level) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for rung, colour in ((False, REFUSED), (True, RUNG)):
            shown = [point for point in points if point.rung == rung]
            x, y = [point.attempt for point in shown], [point.value for point in shown]
            ends = [[p.value - p.low for p in shown], [p.high - p.value for p in shown]]
            axes.errorbar(x, y, ends, fmt="o", color=colour, label="rungs" if rung else "not accepted")
            if rung and shown:
                last = max(point.attempt for point in points)
                axes.step([*x, last], [*y, y[-1]], where="post", color=colour, linewidth=1.5)
        if level is not None:
            axes.axhline(level, color="0.55", linestyle="--", linewidth=1)
        axes.set(xlabel="attempt", ylabel=title)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150, metadata={"Software": None})
