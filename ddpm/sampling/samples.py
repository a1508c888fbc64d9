"""The sets of images drawn from one model: their files, and the seeds of their noise."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddpm.base.errors import UserError
from ddpm.base.files import atomic_path, open_array
from ddpm.base.paths import SNAPSHOTS

LABELS = "labels.npy"


def noise_seed(training_seed: int, seed: int) -> int:
    """The seed of the noise for set ``seed``, below 2**63, for ``Generator``.

    Models with different training seeds get independent noise; models that differ in anything else get the same. So a
    comparison paired by training seed is also paired by noise.
    """
    from ddpm.compute import noise  # whoever only finds a set's file needs no torch

    return noise.stream_seed(training_seed, "samples", seed)


def set_paths(folder: Path, seeds: Sequence[int]) -> dict[int, Path]:
    """Each set's file by its seed: samples.npy for the first, samples-<seed>.npy for the others."""
    first, *others = seeds
    return {first: folder / "samples.npy", **{seed: folder / f"samples-{seed}.npy" for seed in others}}


def snapshot_paths(folder: Path, seeds: Sequence[int]) -> dict[int, dict[int, Path]]:
    """The same for each snapshot of the model whose sets are in ``folder``: by the images it had seen, in order."""
    by_images = sorted((int(path.name), path) for path in (folder / SNAPSHOTS.name).glob("[0-9]*"))
    return {images: set_paths(path, seeds) for images, path in by_images}


def write_labels(folder: Path, labels: NDArray[np.int64]) -> None:
    """Record the (N,) classes that were asked for, the same in every set."""
    with atomic_path(folder / LABELS) as temporary:
        np.save(temporary, labels)


def read_labels(folder: Path) -> NDArray[np.int64]:
    """The labels that ``write_labels`` recorded."""
    return np.array(open_array(folder / LABELS))


def read_samples(path: Path) -> NDArray[np.uint8]:
    """A set as memory-mapped uint8 (N, C, H, W). Raises UserError when the file is anything else."""
    images = open_array(path)
    if images.dtype != np.uint8 or images.ndim != 4 or not len(images):
        raise UserError(
            f"{path}: samples must be uint8 (count, channels, height, width), this is {images.dtype} {images.shape}"
        )
    return images
