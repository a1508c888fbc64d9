"""Reading the processed dataset: data/processed/{train,test}/{images,labels}.npy and manifest.json."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt

from ddpm.base import files
from ddpm.base.errors import UserError
from ddpm.base.images import Images
from ddpm.base.sections import ImageShape, Positive

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")
MANIFEST = "manifest.json"


class Manifest(ImageShape):
    """What the arrays hold.

    counts: images in each split; skipped: broken images that were left out.
    sha256: of each split's folder, that is its images and labels; it identifies the real images in every fingerprint.
    config: identity of the data section that made them.
    """

    dataset: str
    classes: tuple[str, ...]
    counts: Annotated[dict[Split, Positive], Field(min_length=len(SPLITS))]
    skipped: NonNegativeInt
    sha256: Annotated[dict[Split, str], Field(min_length=len(SPLITS))]
    config: str

    def count_text(self) -> str:
        return ", ".join(f"{self.counts[split]:,} {split}" for split in SPLITS)


class TrainClasses(NamedTuple):
    """names: of the K classes; counts: their images in the train split; labels: (N,) of them, int64 in 0..K - 1."""

    names: tuple[str, ...]
    counts: tuple[int, ...]
    labels: NDArray[np.int64]


def read_manifest(processed: Path) -> Manifest:
    """Raises UserError when it is missing or not a manifest."""
    return files.read_json(processed / MANIFEST, Manifest, "`dvc repro reference` makes it, and trains nothing")


def open_split(processed: Path, split: Split) -> tuple[Images, NDArray[np.int64]]:
    """Images (N, C, H, W) and labels (N,), memory-mapped. Images are read-only; what is written to labels reaches no
    file: torch would warn of a tensor that may not be written to.

    Raises UserError when they are missing or damaged.
    """
    images: Images = files.open_array(processed / split / "images.npy")
    labels = np.asarray(files.open_array(processed / split / "labels.npy", "c"))
    return images, labels


def train_classes(processed: Path, classes: int) -> TrainClasses | None:
    """The train split's classes, for a model with ``classes``; None for 0. Raises UserError for another number."""
    if not classes:
        return None
    names = check_classes(processed, classes)
    _, labels = open_split(processed, "train")
    return TrainClasses(names, tuple(np.bincount(labels, minlength=classes).tolist()), labels)


def check_classes(processed: Path, classes: int) -> tuple[str, ...]:
    """The names of the data's classes. Raises UserError when there are not ``classes`` of them."""
    manifest = read_manifest(processed)
    if (count := len(manifest.classes)) != classes:
        allowed = f"0 or {count}" if count > 1 else "0, or sort the images into a folder per class"
        raise UserError(f"model.classes: {classes}, but {manifest.dataset} has {count}; allowed: {allowed}")
    return manifest.classes
