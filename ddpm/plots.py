"""Pictures for people: the only importer of matplotlib."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ddpm.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Curve = NDArray[np.float64]
MAX_ROWS = 12
COLUMNS = 10
MAX_NAME = 24  # characters
MARKERS = "osD^vPX*<>"
# told apart by colour-blind readers too, after Okabe and Ito; the second row is lighter, for a dark ground
COLOURS = {
    False: ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#3a3a3a", "#56b4e9", "#8b5cf6"),
    True: ("#56b4e9", "#ff9248", "#2fc795", "#f0a3ca", "#f0c83c", "#d8d8d8", "#8ab8ff", "#b79cff"),
}

# in grey, so that it is seen on either ground, what nothing is known of
OUTCOMES = {"better": "#0072b2", "worse": "#d55e00", "equivalent": "#009e73", "inconclusive": "#888888"}


@dataclass(frozen=True)
class Panel:
    """Curves over one pair of axes.

    curves: name -> (N, 2) of x and y, or (N, 3) with a half-width around y. levels: name -> a y that is drawn right
    across. front: (N, 2), drawn as a staircase below the curves. log: the axes that are logarithmic. points: with a
    marker at each.
    """

    title: str
    x: str
    y: str
    curves: Mapping[str, Curve]
    levels: Mapping[str, float] = field(default_factory=dict)
    front: Curve | None = None
    log: Literal["", "x", "y", "xy"] = ""
    points: bool = False


@dataclass(frozen=True)
class Gap:
    """Differences of paired runs, and what they come to. interval: None where there is one; margin: that matters."""

    label: str
    differences: Sequence[float]
    mean: float
    interval: tuple[float, float] | None
    margin: float
    outcome: str


def dataset_grid(path: Path, images: NDArray[np.uint8], labels: NDArray[np.int64], classes: tuple[str, ...]) -> None:
    """A row of images for each class, at most a dozen classes, named at the left. images: (N, C, H, W)."""
    present = np.unique(labels)
    shown = present[np.linspace(0, len(present) - 1, min(MAX_ROWS, len(present))).astype(int)]
    rows(path, {classes[label]: images[np.flatnonzero(labels == label)[:COLUMNS]] for label in shown}, [""] * COLUMNS)


def rows(path: Path, images: dict[str, NDArray[np.uint8]], titles: list[str]) -> None:
    """A named row for each (N, C, H, W) of ``images``, N at most the number of ``titles``, which head the columns."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(len(titles) * 0.8 + 1.2, len(images) * 0.8 + 0.4), layout="constrained")
    grid = figure.subplots(len(images), len(titles), squeeze=False)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title, fontsize=9)
    for row, (name, pictures) in zip(grid, images.items(), strict=True):
        # as it is written: a class may be called $5
        row[0].set_ylabel(_short(name), rotation=0, ha="right", va="center", parse_math=False)
        for axes, image in zip(row, pictures, strict=False):
            axes.imshow(image.transpose(1, 2, 0), cmap="gray", vmin=0, vmax=255)
    _save(figure, path)


def _short(name: str) -> str:
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 3]}..."


def schedules(path: Path, alpha_bar: dict[str, Curve], log_snr: dict[str, Curve]) -> None:
    """alpha_bar and log-SNR over t = 1..T, a line for each schedule."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), layout="constrained")
    for axes, curves, title in zip(figure.subplots(1, 2), (alpha_bar, log_snr), ("alpha_bar", "log SNR"), strict=True):
        for name, curve in curves.items():
            axes.plot(np.arange(1, len(curve) + 1), curve, label=name, linewidth=1.5)
        axes.set(title=title, xlabel="t")
        axes.grid(alpha=0.3)
    axes.set_ylim(-15, 15)
    axes.legend(fontsize=8, ncols=2)
    _save(figure, path)


def lines(path: Path, panels: Sequence[Panel]) -> None:
    """The panels side by side; a curve's name has one colour in all of them."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6 * len(panels), 3.8), layout="constrained")
    names = list(dict.fromkeys(name for panel in panels for name in panel.curves))
    colours = [entry["color"] for entry in mpl.rcParams["axes.prop_cycle"]]
    colour = {name: colours[i % len(colours)] for i, name in enumerate(names)}
    marker = {name: MARKERS[i % len(MARKERS)] for i, name in enumerate(names)}
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        if panel.front is not None:
            axes.step(*panel.front.T, where="post", color="0.55", linewidth=6, alpha=0.35, label="Pareto front")
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
        _scale(axes, panel)
        if len(panel.curves) > 1 or panel.levels or panel.front is not None:
            axes.legend(fontsize=8, framealpha=0.6)
    _save(figure, path)


def gaps(path: Path, panels: Mapping[str, Sequence[Gap]], title: str) -> None:
    """A panel for each metric, a row for each pair: a dot a seed, the mean with its interval, a band of the margin."""
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
        for row, gap in enumerate(pairs):
            colour = OUTCOMES[gap.outcome]
            axes.barh(row, 2 * gap.margin, left=-gap.margin, height=0.8, color="#888888", alpha=0.2)
            spread = row + np.linspace(-0.25, 0.25, len(gap.differences)) * (len(gap.differences) > 1)
            axes.plot(gap.differences, spread, ".", color=colour, alpha=0.6)
            if gap.interval:
                axes.plot(gap.interval, (row, row), color=colour, linewidth=2)
            axes.plot(gap.mean, row, "D", color=colour)
        axes.axvline(0, color="#888888", linewidth=1)
        axes.set_title(name, fontsize=9)
        axes.set(ylim=(len(pairs) - 0.5, -0.5))
        axes.set_yticks(range(len(pairs)), [f"{gap.label}\n{gap.outcome}" for gap in pairs], fontsize=8)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.tick_params(axis="x", labelsize=8)
    _save(figure, path)


def _scale(axes: Axes, panel: Panel) -> None:
    """Logarithmic axes with plain numbers at 1, 2 and 5 of each decade, or at every digit of a single one."""
    from matplotlib.ticker import LogLocator, NullFormatter

    for name, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
        if name in panel.log:
            axes.set(**{f"{name}scale": "log"})
            low, high = axis.get_view_interval()
            axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high > 10 * low else range(1, 10)))
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter(NullFormatter())


def themed(draw: Callable[[Path], None]) -> tuple[bytes, bytes]:
    """The PNG that ``draw`` writes to the path it is given, on a transparent ground: for a light page, for a dark one.

    What is grey in both is drawn in grey; text, axes and the curves' colours change.
    """
    import matplotlib as mpl

    pictures = []
    with TemporaryDirectory() as folder:
        for dark in (False, True):
            path = Path(folder) / "picture.png"
            with mpl.rc_context(_style(dark)):
                draw(path)
            pictures.append(path.read_bytes())
    light, dark_one = pictures
    return light, dark_one


def _style(dark: bool) -> Any:
    from cycler import cycler

    inked = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    clear = ("figure.facecolor", "axes.facecolor", "savefig.facecolor", "legend.facecolor")
    return {
        **dict.fromkeys(inked, "#d8dce2" if dark else "#24292f"),
        **dict.fromkeys(clear, "none"),
        "axes.prop_cycle": cycler(color=COLOURS[dark]),
        "savefig.dpi": 150,
    }


def _save(figure: Figure, path: Path) -> None:
    import matplotlib as mpl

    dpi = mpl.rcParams["savefig.dpi"]
    with atomic_path(path) as temporary:
        # the same bytes from any matplotlib
        figure.savefig(temporary, dpi=100 if dpi == "figure" else dpi, metadata={"Software": None})
