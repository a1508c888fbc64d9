"""Datasets: where the images come from.

Contract: ``fetch`` puts a dataset's verified raw files into a folder, ``read`` returns them as ``Originals``. What all
datasets share (size, channels, the split) is in ``ddpm.data.preprocessing``.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddpm.base.errors import mask_secrets
from ddpm.base.files import atomic_path
from ddpm.base.sections import Shape
from ddpm.base.variant import Variant, names, variant_class

MODES = {1: "L", 3: "RGB"}  # PIL's name for pictures of so many channels
CLASSLESS = "images"  # the class of those that have none


@dataclass(frozen=True, eq=False)
class Originals:
    """A dataset's labelled images, decoded on demand and in any order; ``open`` may be called from many threads.

    names: each image's name in messages; unique, and the same on every machine.
    open: index -> PIL image of any size and mode, or uint8 (H, W) or (H, W, C); raises what PIL raises for a broken
    file.
    labels: (N,) int64, indices into ``classes``.
    is_test: (N,) the source's own split, or None if it has none.
    """

    names: Sequence[str]
    open: Callable[[int], Image.Image | NDArray[np.uint8]]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    is_test: NDArray[np.bool_] | None = None

    @classmethod
    def of_arrays(cls, parts: Mapping[str, tuple[NDArray[Any], NDArray[Any]]], classes: tuple[str, ...]) -> Self:
        """From the images of each part, (N, H, W) or (N, H, W, C), and their labels, (N,). The part "test" is the test
        split."""
        counts = [len(images) for images, _ in parts.values()]
        part_of = np.repeat(np.array(list(parts)), counts)
        row_of = np.concatenate([np.arange(count) for count in counts])
        labels = np.concatenate([labels for _, labels in parts.values()])

        def open_image(index: int) -> NDArray[np.uint8]:
            return np.array(parts[part_of[index]][0][row_of[index]])

        names = [f"{part}/{row}" for part, row in zip(part_of, row_of, strict=True)]
        is_test = part_of == "test" if "test" in parts else None
        return cls(names, open_image, labels.astype(np.int64), classes, is_test)


class Dataset(Variant, ABC):
    """Contract of a dataset. licence: as stated by its authors. verified: whether ``data.source`` can only be another
    place of the published files. address: the public one; without any, it needs ``data.source``. packaged: whether the
    images come with a package; then it takes no ``data.source``."""

    licence: ClassVar[str] = "not known to the project: look it up before you share this"
    verified: ClassVar[bool] = False
    address: ClassVar[str | None] = None
    packaged: ClassVar[bool] = False

    def download(self, source: str | None, raw: Path) -> None:
        """Put the verified files under ``raw``, all or none.

        source: data.source in params.yaml, an http(s) address, a folder or an archive; None for the public address.
        Raises UserError when it cannot be fetched, or is not what was published.
        """
        with atomic_path(raw) as folder:
            folder.mkdir()
            self.fetch(source, folder)

    def refusals(self, image: Shape) -> Iterator[str]:
        """Why it cannot give images of that shape, if that is known before any is fetched. A dataset of pictures gives
        any size."""
        if image.channels not in MODES:
            allowed = " and ".join(map(str, MODES))
            yield f"channels: {image.channels} is not allowed for the pictures of {self.name}; allowed: {allowed}"

    @abstractmethod
    def fetch(self, source: str | None, folder: Path) -> None:
        """``download`` into the empty ``folder``, which is removed if this raises. What is next to it is removed."""

    @abstractmethod
    def read(self, raw: Path) -> Originals:
        """The records that ``download`` put under ``raw``."""


def name_images(dataset: str, source: object) -> str:
    """A name for the images: that of ``data.source``, if it names other images than the published ones."""
    published = dataset in names("datasets") and getattr(variant_class("datasets", dataset), "verified", False)
    return dataset if published or not source else PurePosixPath(mask_secrets(str(source))).name.partition(".")[0]
