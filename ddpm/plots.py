"""Pictures for people: the only importer of matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ddpm.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Curve = NDArray[np.float64]
MAX_ROWS = 12
COLUMNS = 10


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
        row[0].set_ylabel(name, rotation=0, ha="right", va="center")
        for axes, image in zip(row, pictures, strict=False):
            axes.imshow(image.transpose(1, 2, 0), cmap="gray", vmin=0, vmax=255)
    _save(figure, path)


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


def _save(figure: Figure, path: Path) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=100, metadata={"Software": None})  # the same bytes from any matplotlib
