"""Datasets of encoded pictures in a few large files.

The raw folder holds one Arrow file with the unchanged pictures and their names, and their labels next to it. Any
picture can be read from it without the others, and none is held in memory.
"""

import io
import math
import re
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from ddpm.base import files
from ddpm.base.errors import UserError, printable
from ddpm.base.variant import shown
from ddpm.sources import fetch as _sources
from ddpm.sources.archives import reading
from ddpm.sources.dataset import CLASSLESS, Dataset, Records
from ddpm.sources.photos import FORMATS, HELD_OUT

FILE = "images.arrow"
CLASSES = "classes.json"
LABELS = "labels.npy"
ROWS = pa.schema({"name": pa.string(), "image": pa.binary(), "test": pa.bool_()})
BATCH, BATCH_BYTES = 1000, 2**24  # of what is written at a time
MAX_PICTURE_BYTES = 2**28
MAX_LABEL = 100  # characters


class PackedImage(NamedTuple):
    """name: unique. image: encoded; empty if the source has none here. label: a number, a word, or None."""

    name: str
    image: bytes
    label: int | str | None


class Part(NamedTuple):
    """The content of one file. classes: the names of the numbers 0, 1, ..., if the file has them."""

    samples: Iterator[PackedImage]
    classes: tuple[str, ...] | None = None


class Packed(Dataset):
    """``data.source`` is a file that ends in one of ``suffixes``, or a folder of them. They are taken in the order of
    their names. If some have "train" in their name or folder, and others "test", "val", "valid" or "validation", that
    is the split: all but train are held out.
    """

    suffixes: ClassVar[tuple[str, ...]]

    @abstractmethod
    def part(self, path: Path, name: str) -> Part:
        """What the file holds, in its order. name: the file's, for messages and the names of samples.

        Raises UserError, also while the samples are read, when the file is not what it should be.
        """

    def fetch(self, source: str | None, folder: Path) -> None:
        paths = self._files(_sources.locate(source, None, (), folder))
        is_test = _is_test(list(paths))
        declared: dict[str, tuple[str, ...] | None] = {}
        names: list[str] = []
        labels: list[int | str | None] = []
        with pa.OSFile(str(folder / FILE), "wb") as file, pa.ipc.new_file(file, ROWS) as out:
            for name, path in paths.items():
                part = self.part(path, name)
                declared[name] = part.classes
                if len(set(declared.values())) > 1:
                    raise UserError(
                        f"{name}: names the classes {shown(part.classes or ())}, other files others; give all files "
                        "the same names, or none"
                    )
                has_images = False
                for batch in _batches(part.samples):
                    images = [sample.image for sample in batch]
                    has_images |= any(images)
                    names += [_text(sample.name) for sample in batch]
                    labels += [sample.label for sample in batch]
                    out.write_batch(pa.record_batch([names[-len(batch) :], images, [is_test[name]] * len(batch)], ROWS))
                if not has_images:
                    raise UserError(f"{name}: no images in it; remove it (docs/images.md says what it must hold)")
        classes, numbers = classed(names, labels, part.classes)
        files.write_json(folder / CLASSES, classes)
        np.save(folder / LABELS, numbers)

    def _files(self, source: Path) -> dict[str, Path]:
        """Name -> path, sorted."""
        paths = {source.name: source}
        if source.is_dir():
            with reading(source) as members:
                paths = {name: source / name for name in sorted(member.name for member in members)}
        hidden = re.compile(r"(^|/)\.")
        paths = {
            name: path
            for name, path in paths.items()
            if name.lower().endswith(self.suffixes) and not hidden.search(name)
        }
        if not paths:
            raise UserError(f"data.source: no {self.name} files in {source}; allowed: {', '.join(self.suffixes)}")
        return paths

    def read(self, raw: Path) -> Records:
        table = pa.ipc.open_file(pa.memory_map(str(raw / FILE))).read_all()
        images, tests = table["image"], table["test"]

        def open_image(index: int) -> Image.Image:
            content = images[index].as_buffer()
            if not content.size:
                raise ValueError("there is no picture")
            return Image.open(io.BytesIO(content), formats=FORMATS)

        return Records(
            names=table["name"].to_pylist(),
            open=open_image,
            labels=np.load(raw / LABELS),
            classes=tuple(printable(name) or repr(name) for name in files.read_json(raw / CLASSES)),
            is_test=None if tests.null_count else tests.to_numpy(),
        )


def classed(
    names: list[str], labels: list[int | str | None], declared: tuple[str, ...] | None
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """The classes, as declared or sorted, and each sample's number among them, (N,).

    Raises UserError unless all samples have a number of a class, all have a word, or none has a label.
    """
    first, most = labels[0], len(declared) if declared else math.inf
    for name, label in zip(names, labels, strict=True):
        if type(label) is not type(first):
            raise UserError(
                f"{name}: {_said(label)}, and {names[0]}: {_said(first)}; allowed: a number for all, a word for all, "
                "or no label"
            )
        if isinstance(label, str) and not 0 < len(label) <= MAX_LABEL:
            raise UserError(f"{name}: label {shown(label)}; allowed: 1 to {MAX_LABEL} characters")
        if isinstance(label, int) and not 0 <= label < most:
            allowed = f"0 to {most - 1}" if declared else "0 and more"
            raise UserError(f"{name}: label {label}; allowed: {allowed}; remove images without a class")
    if first is None:
        return (CLASSLESS,), np.zeros(len(labels), np.int64)
    if declared and isinstance(first, int):
        return declared, np.array(labels, np.int64)
    classes: list[Any] = sorted(set(labels))  # all of one type
    number = {label: number for number, label in enumerate(classes)}
    return tuple(map(str, classes)), np.array([number[label] for label in labels], np.int64)


def _said(label: int | str | None) -> str:
    return "no label" if label is None else f"label {shown(label)}"


def _batches(samples: Iterator[PackedImage]) -> Iterator[list[PackedImage]]:
    """Lists of samples, none empty, that are small in memory."""
    batch: list[PackedImage] = []
    size = 0
    for sample in samples:
        batch.append(sample)
        size += len(sample.image)
        if len(batch) == BATCH or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _is_test(names: list[str]) -> dict[str, bool | None]:
    """Whether each file is of the test split; None for all if not both splits are named."""
    words = {name: set(re.split("[^a-z]+", name.lower())) for name in names}
    train = {name for name in names if "train" in words[name]}
    test = {name for name in names if words[name] & HELD_OUT}
    if not (train and test):
        return dict.fromkeys(names)
    if odd := [name for name in names if (name in train) == (name in test)]:
        raise UserError(
            f"{odd[0]}: its name must say whether it is train or test, as others do; allowed: train, "
            f"{', '.join(sorted(HELD_OUT))}; rename or remove it"
        )
    return {name: name in test for name in names}


def _text(name: str) -> str:
    """A name that is no UTF-8 in a tar or on the disk, as text."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def check_size(name: str, size: int) -> None:
    """Raises UserError if so many bytes are too many for a picture."""
    if size > MAX_PICTURE_BYTES:
        raise UserError(f"{name}: a picture of {size:,} bytes; at most {MAX_PICTURE_BYTES:,} are allowed")
