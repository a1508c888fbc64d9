"""The picture of a ladder: what was tried, in order, and the steps that the champion took."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from ddpm.base.files import atomic_path

# title; for each attempt its number, 0 for what it began with, its value, how far its interval reaches below and above
# it (in either order of the metric), and whether it is a rung that stands; a value to mark, unless None
Panel: TypeAlias = tuple[str, Sequence[tuple[int, float, float, float, bool]], float | None]
LOOKS = {False: ("#999999", "not accepted"), True: ("#0072b2", "rungs")}


def draw(path: Path, panels: Sequence[Panel]) -> None:
    """Draw the panels side by side; the first has the steps."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(5.6 * len(panels), 3.8), layout="constrained")
    grid = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (title, attempts, level) in zip(grid, panels, strict=True):
        for is_rung, (colour, label) in LOOKS.items():
            shown = [attempt for attempt in attempts if attempt[4] == is_rung]
            x, y, below, above = ([attempt[column] for attempt in shown] for column in range(4))
            axes.errorbar(x, y, [below, above], fmt="o", color=colour, label=label)
            if is_rung and shown and axes is grid[0]:
                axes.step([*x, attempts[-1][0]], [*y, y[-1]], where="post", color=colour, linewidth=1.5)
        if level is not None:
            axes.axhline(level, color="0.55", linestyle="--", linewidth=1, label="target")
        last = max((attempt[0] for attempt in attempts), default=1)
        axes.set(xlabel="attempt", ylabel=title, xlim=(-0.5, last + 0.5))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150, metadata={"Software": None})
