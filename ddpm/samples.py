"""The sets of images drawn from one model: their files, and the noise that each is drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddpm import files, noise
from ddpm.errors import UserError


def noise_seed(training_seed: int, seed: int) -> int:
    """The seed of the noise of set ``seed``, below 2**63, for ``Generator``.

    Models of different training seeds get independent noise, and models that differ in anything else the same: a
    comparison paired by training seed is then paired by noise as well.
    """
    return noise.stream_seed(training_seed, "samples", seed)


def set_paths(folder: Path, seeds: Sequence[int]) -> dict[int, Path]:
    """Each set's file by its seed: samples.npy for the first, samples-<seed>.npy beside it for the others."""
    first, *others = seeds
    return {first: folder / "samples.npy", **{seed: folder / f"samples-{seed}.npy" for seed in others}}


def read_samples(path: Path) -> NDArray[np.uint8]:
    """Memory-mapped uint8 (N, C, H, W). Raises UserError when the file is anything else; pickles are refused."""
    try:
        images = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; `dvc repro` makes it") from error
    except files.NO_ARRAY as error:
        reason = str(error) or type(error).__name__
        raise UserError(f"{path}: not a readable .npy of samples ({reason}); run `dvc repro -f sample`") from error
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 4 or not len(images):
        found = f"{images.dtype} {images.shape}" if isinstance(images, np.ndarray) else "an archive"
        raise UserError(f"{path}: samples must be uint8 (count, channels, height, width), this is {found}")
    return images
