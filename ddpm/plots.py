"""Pictures for people: the only importer of matplotlib."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddpm.files import atomic_path

MAX_ROWS = 12
COLUMNS = 10


def dataset_grid(path: Path, images: NDArray[np.uint8], labels: NDArray[np.int64], classes: tuple[str, ...]) -> None:
    """A row of images for each class, at most a dozen classes, named at the left. images: (N, C, H, W)."""
    from matplotlib.figure import Figure

    present = np.unique(labels)
    shown = present[np.linspace(0, len(present) - 1, min(MAX_ROWS, len(present))).astype(int)]
    figure = Figure(figsize=(COLUMNS * 0.8 + 1.2, len(shown) * 0.8 + 0.4), layout="constrained")
    grid = figure.subplots(len(shown), COLUMNS, squeeze=False)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    for row, label in zip(grid, shown, strict=True):
        row[0].set_ylabel(classes[label], rotation=0, ha="right", va="center")
        for axes, image in zip(row, images[np.flatnonzero(labels == label)[:COLUMNS]], strict=False):
            axes.imshow(image.transpose(1, 2, 0), cmap="gray", vmin=0, vmax=255)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=100, metadata={"Software": None})  # the same bytes from any matplotlib
