"""Plots. Nothing else imports matplotlib."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ddpm.base.files import atomic_path

Curve = NDArray[np.float64]
FEW = 20  # points of a curve that are marked
MANY = 6  # names in a legend, from which on it would hide curves
FAR = 20  # how much farther than most rows of a panel of gaps the farthest may reach on a linear axis
MARKERS = "osD^vPX*<>"
OUTCOMES = {
    "better": "#0072b2",
    "worse": "#d55e00",
    "equivalent": "#009e73",
    "mixed": "#e69f00",
    "too early": "#cc79a7",
}
UNDECIDED = "#888888"


@dataclass(frozen=True)
class Panel:
    """Curves over one pair of axes.

    curves: name -> (N, 2) of x and y, or (N, 4) with the lower and the upper end of an interval. levels: name -> y of a
    horizontal line. log: the logarithmic axes. ticks: the only values of x to label. steps: whether y holds until the
    next x, and intervals are bars; then curves in ``gray`` are points.
    """

    title: str
    x: str
    y: str
    curves: Mapping[str, Curve]
    levels: Mapping[str, float] = field(default_factory=dict)
    log: Literal["", "x", "y", "xy"] = ""
    ticks: Sequence[float] = ()
    steps: bool = False
    gray: Sequence[str] = ()


def lines(path: Path, panels: Sequence[Panel]) -> None:
    """The panels side by side; a curve has the same colour in all of them. The legend of many is next to them."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6 * len(panels), 3.8), layout="constrained")
    names = list(dict.fromkeys(name for panel in panels for name in panel.curves))
    colours = [entry["color"] for entry in mpl.rcParams["axes.prop_cycle"]]
    legend: dict[str, Any] = {}
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for name, curve in panel.curves.items():
            (x, y), interval, place = curve[:, :2].T, curve[:, 2:].T, names.index(name)
            colour = UNDECIDED if name in panel.gray else colours[place % len(colours)]
            marker = MARKERS[place % len(MARKERS)] if panel.steps or len(curve) <= FEW else ""
            dash = "-" if place < len(colours) else "--"  # from where colours come again
            dash = "none" if panel.steps and name in panel.gray else dash
            style = {"color": colour, "marker": marker, "markersize": 5, "ls": dash, "lw": 1.5, "label": _escape(name)}
            if panel.steps:
                axes.errorbar(x, y, abs(interval - y), drawstyle="steps-post", **style)
            else:
                axes.plot(x, y, **style)
                if len(interval):
                    axes.fill_between(x, *interval, color=colour, alpha=0.2, linewidth=0)
        for name, level in panel.levels.items():
            axes.axhline(level, color="0.55", linestyle="--", linewidth=1.5, label=_escape(name))
        axes.set(title=_escape(panel.title), xlabel=_escape(panel.x), ylabel=_escape(panel.y))
        axes.grid(alpha=0.3)
        for name in panel.log:
            axes.set(**{f"{name}scale": "log"})
        if panel.ticks:
            axes.set_xticks(panel.ticks, [f"{tick:,.10g}" for tick in panel.ticks], fontsize=8)
            axes.set_xticks([], minor=True)
        if len(names) >= MANY:
            legend |= {label: line for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
        elif len(panel.curves) > 1 or panel.levels:
            axes.legend(fontsize=8, framealpha=0.6)
    if legend:
        figure.legend(legend.values(), legend, loc="outside right center", fontsize=8)
    _save(figure, path)


def gaps(path: Path, panels: Mapping[str, Sequence[Any]], title: str) -> None:
    """A panel per metric and a row per arm: a dot per seed, the mean with its interval, and the margin as a band.

    panels: title -> verdicts, of which arm, outcome, differences, difference, low, high and margin are shown.
    Where a row reaches ``FAR`` times as far as most, the axis is logarithmic beyond them, so that they stay readable.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    columns, most = min(len(panels), 3), max(map(len, panels.values()))
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(1.5 + 3.5 * columns, 0.6 + lines * (0.9 + 0.45 * most)), layout="constrained")
    figure.suptitle(_escape(title), fontsize=10, wrap=True)
    grid = figure.subplots(lines, columns, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for axes, (name, rows) in zip(grid.flat, panels.items(), strict=False):
        for row, gap in enumerate(rows):
            colour, seeds = OUTCOMES.get(gap.outcome, UNDECIDED), len(gap.differences)
            axes.barh(row, 2 * gap.margin, left=-gap.margin, height=0.8, color=UNDECIDED, alpha=0.2)
            spread = np.linspace(-0.25, 0.25, seeds) if seeds > 1 else np.zeros(1)
            axes.plot(gap.differences, row + spread, ".", color=colour, alpha=0.6)
            if gap.low is not None:
                axes.plot((gap.low, gap.high), (row, row), color=colour, linewidth=2)
            axes.plot(gap.difference, row, "D", color=colour)
        axes.axvline(0, color=UNDECIDED, linewidth=1)
        axes.set_title(_escape(name), fontsize=9)
        axes.set(ylim=(len(rows) - 0.5, -0.5))
        axes.set_yticks(range(len(rows)), [_escape(f"{gap.arm}\n{gap.outcome}") for gap in rows], fontsize=8)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.tick_params(axis="x", labelsize=8)
        values = [np.array([*gap.differences, gap.low or 0.0, gap.high or 0.0]) for gap in rows]
        usual = sorted(np.abs(row).max() for row in values)[(len(values) - 1) // 2]
        ends = min(row.min() for row in values), max(row.max() for row in values)
        if 0 < FAR * usual < max(np.abs(ends)):
            axes.set_xscale("symlog", linthresh=usual, linscale=2)
            axes.autoscale(axis="x")
            ticks = [-usual, 0, usual, *(end for end in ends if abs(end) > FAR / 4 * usual)]
            shown = [float(f"{tick:.1g}") for tick in ticks]
            axes.set_xticks(shown, [f"{tick:g}" for tick in shown])
            axes.set_xlabel(f"logarithmic beyond \N{PLUS-MINUS SIGN}{usual:.2g}", fontsize=8)
    _save(figure, path)


def _escape(text: str) -> str:
    """Names come from outside, and matplotlib takes what is between two $ for a formula. Its own labels of logarithmic
    axes are formulas, so these cannot be switched off."""
    return text.replace("$", r"\$")


def _save(figure: Any, path: Path) -> None:
    with atomic_path(path) as temporary:
        # without the version, so that any matplotlib writes the same bytes
        figure.savefig(temporary, dpi=120, metadata={"Software": None})
