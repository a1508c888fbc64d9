"""Reading the processed dataset: data/processed/{train,test}/{images,labels}.npy and manifest.json."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt

from ddpm.base import files
from ddpm.base.errors import UserError
from ddpm.base.files import NO_ARRAY
from ddpm.base.images import Images
from ddpm.base.sections import ImageShape, Positive

if TYPE_CHECKING:
    from ddpm.data.data_params import Data

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")
MANIFEST = "manifest.json"


class Manifest(ImageShape):
    """What the arrays hold.

    counts: images in each split; skipped: broken images that were left out.
    sha256: of each split's folder, that is its images and labels; it identifies the real images in every fingerprint.
    """

    dataset: str
    classes: tuple[str, ...]
    counts: Annotated[dict[Split, Positive], Field(min_length=len(SPLITS))]
    skipped: NonNegativeInt
    sha256: Annotated[dict[Split, str], Field(min_length=len(SPLITS))]

    @property
    def digest(self) -> str:
        """Eight hex digits that identify the images and labels, as long as MLflow's own digests."""
        return files.digest(self.sha256)[:8]

    def classed(self) -> str:
        return f"{len(self.classes) if len(self.classes) > 1 else 'no'} classes"

    def counted(self) -> str:
        return ", ".join(f"{self.counts[split]:,} {split}" for split in SPLITS)


class TrainClasses(NamedTuple):
    """names: of the K classes; counts: their images in the train split; labels: (N,) of them, int64 in 0..K - 1."""

    names: tuple[str, ...]
    counts: tuple[int, ...]
    labels: NDArray[np.int64]


def read_manifest(processed: Path) -> Manifest:
    """Raises UserError when it is missing or not a manifest."""
    return files.read_json(processed / MANIFEST, Manifest)


def called(data: Data, processed: Path) -> str:
    """A readable name for the images: a published dataset's own name, or for a user's own images the source's name and
    the digest of the images, e.g. "flowers64-1a2b3c4d"; without the digest if ``processed`` holds no images.

    The source's name is only in params.yaml: if the manifest held it, renaming a folder would train the model again.
    """
    name = data.dataset.own_name(data.source)
    if name is None:
        return data.dataset.name
    return f"{name}-{read_manifest(processed).digest}" if (processed / MANIFEST).exists() else name


def open_split(processed: Path, split: Split) -> tuple[Images, NDArray[np.int64]]:
    """Images (N, C, H, W) and labels (N,), memory-mapped. Images are read-only; what is written to labels reaches no
    file: torch would warn of a tensor that may not be written to.

    Raises UserError when they are missing or damaged.
    """
    images: Images = open_array(processed / split / "images.npy")
    labels = np.asarray(open_array(processed / split / "labels.npy", "c"))
    return images, labels


def train_classes(processed: Path, classes: int) -> TrainClasses | None:
    """The train split's, for a model of so many ``classes``; None for 0. Raises UserError for another number."""
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
        raise UserError(
            f"model.classes: {classes} is not what {manifest.dataset} has: {count} "
            f"class{'es' * (count != 1)}; allowed: {allowed}"
        )
    return manifest.classes


def open_array(path: Path, mode: Literal["r", "c"] = "r") -> NDArray[Any]:
    """A .npy file, memory-mapped and read-only, or copied where it is written to. Raises UserError when it is missing,
    damaged or a pickle."""
    try:
        array = np.load(path, mmap_mode=mode, allow_pickle=False)
    except NO_ARRAY as error:
        reason = str(error) or type(error).__name__
        raise UserError(f"{path}: missing or damaged ({reason}); remove it and run `dvc repro`") from error
    if not isinstance(array, np.ndarray):
        raise UserError(f"{path}: damaged (an archive of arrays); remove it and run `dvc repro`")
    return array
