"""Plots. Nothing else imports matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ddpm.base.files import atomic_path
from ddpm.base.images import Images
from ddpm.pictures.channels import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Curve = NDArray[np.float64]
MAX_ROWS = 12
COLUMNS = 10
MAX_NAME = 24  # characters
FAR = 20  # how much farther than most rows of a panel of gaps the farthest may reach on a linear axis
MARKERS = "osD^vPX*<>"
OUTCOMES = {"better": "#0072b2", "worse": "#d55e00", "equivalent": "#009e73", "too early": "#cc79a7"}
UNDECIDED = "#888888"


@dataclass(frozen=True)
class Panel:
    """Curves over one pair of axes.

    curves: name -> (N, 2) of x and y, or (N, 3) with a half-width around y. levels: name -> y of a horizontal line.
    log: the logarithmic axes. points: whether to mark each point. ticks: the only values of x to label. linear: above
    0, y is linear up to that far from 0, and logarithmic beyond.
    """

    title: str
    x: str
    y: str
    curves: Mapping[str, Curve]
    levels: Mapping[str, float] = field(default_factory=dict)
    log: Literal["", "x", "y", "xy"] = ""
    points: bool = False
    ticks: Sequence[float] = ()
    linear: float = 0.0


class Gap(Protocol):
    """What ``gaps`` draws for a comparison: the differences by seed, their mean with its interval, and the margin."""

    @property
    def outcome(self) -> str: ...
    @property
    def differences(self) -> Sequence[float]: ...
    @property
    def difference(self) -> float: ...
    @property
    def margin(self) -> float: ...
    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...


def dataset_grid(path: Path, images: Images, labels: NDArray[np.int64], classes: tuple[str, ...]) -> None:
    """A row of images for each class, labelled on the left; at most MAX_ROWS classes. images: (N, C, H, W)."""
    present = np.unique(labels)
    shown = present[np.linspace(0, len(present) - 1, min(MAX_ROWS, len(present))).astype(int)]
    rows(path, {classes[label]: images[np.flatnonzero(labels == label)[:COLUMNS]] for label in shown}, [""] * COLUMNS)


def rows(path: Path, images: dict[str, NDArray[np.uint8]], titles: list[str]) -> None:
    """A labelled row for each (N, C, H, W) of ``images``. ``titles`` head the columns; there are at least N."""
    from matplotlib.figure import Figure

    height, width = next(iter(images.values())).shape[2:]
    whole = np.full((len(images) * (height + 1), len(titles) * (width + 1), 3), 255, dtype=np.uint8)
    for row, pictures in enumerate(images.values()):
        for column, image in enumerate(pictures):
            y, x = row * (height + 1), column * (width + 1)
            whole[y : y + height, x : x + width] = image[visible(len(image))].transpose(1, 2, 0)
    figure = Figure(figsize=(len(titles) * 0.8 + 1.2, len(images) * 0.8 + 0.4), layout="constrained")
    axes = figure.subplots()
    axes.imshow(whole)
    short = [name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 3]}..." for name in images]
    # parse_math off: a class may be called $5
    axes.set_yticks(np.arange(len(short)) * (height + 1) + height / 2, short, parse_math=False)
    axes.set_xticks(np.arange(len(titles)) * (width + 1) + width / 2, titles, fontsize=9)
    axes.tick_params(length=0, top=True, labeltop=True, labelbottom=False)
    axes.spines[:].set_visible(False)
    _save(figure, path)


def lines(path: Path, panels: Sequence[Panel]) -> None:
    """The panels side by side; a curve has the same colour in all of them."""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.scale import LogScale
    from matplotlib.ticker import LogLocator, NullFormatter

    figure = Figure(figsize=(5.6 * len(panels), 3.8), layout="constrained")
    names = list(dict.fromkeys(name for panel in panels for name in panel.curves))
    colours = [entry["color"] for entry in mpl.rcParams["axes.prop_cycle"]]
    colour = {name: colours[i % len(colours)] for i, name in enumerate(names)}
    marker = {name: MARKERS[i % len(MARKERS)] for i, name in enumerate(names)}
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for name, curve in panel.curves.items():
            x, y = curve[:, 0], curve[:, 1]
            shown = marker[name] if panel.points else ""
            axes.plot(x, y, marker=shown, markersize=5, linewidth=1.5, color=colour[name], label=name)
            if curve.shape[1] == 3:
                axes.fill_between(x, y - curve[:, 2], y + curve[:, 2], color=colour[name], alpha=0.2, linewidth=0)
        for name, level in panel.levels.items():
            axes.axhline(level, color="0.55", linestyle="--", linewidth=1.5, label=name)
        axes.set(title=panel.title, xlabel=panel.x, ylabel=panel.y)
        axes.grid(alpha=0.3)
        for name in panel.log:  # tick labels at 1, 2 and 5 of each decade, or at every digit of a single one
            axis = {"x": axes.xaxis, "y": axes.yaxis}[name]
            axes.set(**{f"{name}scale": LogScale(axis, nonpositive="mask")})
            low, high = axis.get_view_interval()
            axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high > 10 * low else range(1, 10)))
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter(NullFormatter())
        if panel.linear:
            axes.set_yscale("symlog", linthresh=panel.linear)
            axes.yaxis.set_major_formatter("{x:,g}")
        if panel.ticks:
            axes.set_xticks(panel.ticks, [f"{tick:,.10g}" for tick in panel.ticks], fontsize=8)
            axes.set_xticks([], minor=True)
        if len(panel.curves) > 1 or panel.levels:
            axes.legend(fontsize=8, framealpha=0.6)
    _save(figure, path, dpi=150)


def gaps(path: Path, panels: Mapping[str, Mapping[str, Gap]], title: str) -> None:
    """A panel per metric and a row per pair: a dot per seed, the mean with its interval, and the margin as a band.

    Where a row reaches ``FAR`` times as far as most, the axis is logarithmic beyond them, so that they stay readable.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    columns, most = min(len(panels), 3), max(map(len, panels.values()))
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(1.5 + 3.5 * columns, 0.6 + lines * (0.9 + 0.45 * most)), layout="constrained")
    figure.suptitle(title, fontsize=10)
    grid = figure.subplots(lines, columns, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for axes, (name, pairs) in zip(grid.flat, panels.items(), strict=False):
        for row, verdict in enumerate(pairs.values()):
            colour, seeds = OUTCOMES.get(verdict.outcome, UNDECIDED), len(verdict.differences)
            axes.barh(row, 2 * verdict.margin, left=-verdict.margin, height=0.8, color="#888888", alpha=0.2)
            spread = row + np.linspace(-0.25, 0.25, seeds) * (seeds > 1)
            axes.plot(verdict.differences, spread, ".", color=colour, alpha=0.6)
            if verdict.low is not None:
                axes.plot((verdict.low, verdict.high), (row, row), color=colour, linewidth=2)
            axes.plot(verdict.difference, row, "D", color=colour)
        axes.axvline(0, color="#888888", linewidth=1)
        axes.set_title(name, fontsize=9)
        axes.set(ylim=(len(pairs) - 0.5, -0.5))
        labels = [f"{label}\n{verdict.outcome}" for label, verdict in pairs.items()]
        axes.set_yticks(range(len(pairs)), labels, fontsize=8)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.tick_params(axis="x", labelsize=8)
        values = [np.array([*v.differences, v.low or 0.0, v.high or 0.0]) for v in pairs.values()]
        usual = sorted(np.abs(row).max() for row in values)[(len(values) - 1) // 2]
        ends = min(row.min() for row in values), max(row.max() for row in values)
        if 0 < FAR * usual < max(np.abs(ends)):
            axes.set_xscale("symlog", linthresh=usual, linscale=2)
            axes.autoscale(axis="x")
            ticks = [-usual, 0, usual, *(end for end in ends if abs(end) > FAR / 4 * usual)]
            shown = [float(f"{tick:.1g}") for tick in ticks]
            axes.set_xticks(shown, [f"{tick:g}" for tick in shown])
            axes.set_xlabel(f"logarithmic beyond \N{PLUS-MINUS SIGN}{usual:.2g}", fontsize=8)
    _save(figure, path, dpi=150)


def _save(figure: Figure, path: Path, dpi: int = 100) -> None:
    with atomic_path(path) as temporary:
        # without the version, so that any matplotlib writes the same bytes
        figure.savefig(temporary, dpi=dpi, metadata={"Software": None})
