"""Datasets of image files in folders.

The raw folder holds one uncompressed tar of the unchanged image files: DVC hashes one file much faster than a tree of
them, each image can be read at its offset, and no name from outside ever becomes a path here.
"""

import io
import os
import sys
import tarfile
from abc import abstractmethod
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import ClassVar

import numpy as np
from PIL import Image

from ddpm.base import files
from ddpm.base.errors import UserError, plural, printable
from ddpm.sources import fetch as _sources
from ddpm.sources.archives import members, open_members
from ddpm.sources.dataset import Dataset, Originals

FILE = "images.tar"
SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
HELD_OUT = frozenset({"test", "val", "valid", "validation"})  # names of a source's own test split
# PIL's other readers are rarely used, and one of them starts another program
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")


class Photos(Dataset):
    """address, sha256: of the public archive, if there is one."""

    sha256: ClassVar[str | None] = None

    def fetch(self, source: str | None, folder: Path) -> None:
        place = _sources.locate(source, self.address, (), folder)
        if source is None and self.sha256:
            _sources.verify(place, files.sha256, self.sha256)
        others = []
        with tarfile.open(folder / FILE, "w") as tar:
            with open_members(place) as photos:
                for file in photos:
                    # without times and owners, so that the same images give the same bytes
                    info = tarfile.TarInfo(str(PurePosixPath(file.name)))
                    info.size = file.size
                    if is_image(info.name):
                        tar.addfile(info, file.stream)
                    elif not is_hidden(info.name):
                        others.append(info.name)
            if not tar.getmembers():
                raise _empty(place)
        if others:
            print(describe_others(others), file=sys.stderr)

    def look(self, place: Path) -> tuple[int, int, int | None, str]:
        """How many images and classes a folder or archive has, how many of the images it holds out if it does so
        itself, and what ``describe_others`` says. Raises UserError if it cannot be read."""
        with open_members(place) as members:
            names = sorted(str(PurePosixPath(member.name)) for member in members)
        images = [name for name in names if is_image(name)]
        if not images:
            raise _empty(place)
        class_of, held_out = self.arrange(images)
        others = describe_others(name for name in names if not is_hidden(name))
        return len(images), len({*class_of.values()}), None if held_out is None else len(held_out), others

    @abstractmethod
    def arrange(self, names: list[str]) -> tuple[dict[str, str], set[str] | None]:
        """The class of each of the dataset's images, and which are held out, or None if the source has no split.

        names: the sorted paths of all image files. Raises UserError when they are not the dataset's.
        """

    def read(self, raw: Path) -> Originals:
        path = raw / FILE
        with tarfile.open(path, "r:") as tar:
            places = {member.name: (member.offset_data, member.size) for member in members(tar)}
        class_of, held_out = self.arrange(sorted(places))
        names = list(class_of)
        # an archive often has one folder that holds all others: split and messages are those of the folder unpacked
        top = os.path.commonpath([PurePosixPath(name).parent for name in names])
        classes, labels = np.unique(list(class_of.values()), return_inverse=True)
        is_test = None if held_out is None else np.array([name in held_out for name in names])

        def open_image(index: int) -> Image.Image:
            offset, size = places[names[index]]
            with path.open("rb") as handle:
                handle.seek(offset)
                return Image.open(io.BytesIO(handle.read(size)), formats=FORMATS)

        shown = tuple(printable(str(name)) or repr(str(name)) for name in classes)
        short = [str(PurePosixPath(name).relative_to(top)) for name in names]
        return Originals(short, open_image, labels.astype(np.int64), shown, is_test)


def _empty(place: Path) -> UserError:
    return UserError(f"{place}: no images in it; allowed: {', '.join(sorted(SUFFIXES))}")


def is_image(name: str) -> bool:
    """Whether the suffix is an image's; hidden files are not images."""
    return PurePosixPath(name).suffix.lower() in SUFFIXES and not is_hidden(name)


def is_hidden(name: str) -> bool:
    """Whether it is a hidden file, or one that macOS adds to archives."""
    return any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts)


def describe_others(names: Iterable[str]) -> str:
    """A line that counts the files among them that are not images; empty if there are none."""
    others = sum(not is_image(name) for name in names)
    return f"{plural(others, 'file')} left out: images end in {', '.join(sorted(SUFFIXES))}" if others else ""
