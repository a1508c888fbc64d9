"""Datasets of encoded pictures in a few large files.

The raw folder holds one Arrow file with the unchanged pictures, their names and labels. Any picture can be read from
it without the others, and none is held in memory.
"""

import io
import re
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pyarrow as pa
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
ROWS = pa.schema({"name": pa.string(), "image": pa.binary(), "label": pa.int64(), "test": pa.bool_()})
BATCH, BATCH_BYTES = 1000, 2**24  # of what is written at a time
MAX_PICTURE_BYTES = 2**28
MAX_CLASSES = 100_000
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
        labels = _Labels()
        with pa.OSFile(str(folder / FILE), "wb") as file, pa.ipc.new_file(file, ROWS) as out:
            for name, path in paths.items():
                part = self.part(path, name)
                labels.declare(name, part.classes)
                has_images = False
                for batch in _batches(part.samples):
                    names = [_text(sample.name) for sample in batch]
                    images = [sample.image for sample in batch]
                    has_images |= any(images)
                    numbers = [labels.number(sample) for sample in batch]
                    out.write_batch(pa.record_batch([names, images, numbers, [is_test[name]] * len(batch)], ROWS))
                if not has_images:
                    raise UserError(f"{name}: no images in it; remove it (docs/images.md says what it must hold)")
        classes, places = labels.sorted()
        files.write_json(folder / CLASSES, {"classes": classes, "places": places})

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
        about = files.read_json(raw / CLASSES)
        numbers, images, tests = (table[column] for column in ("label", "image", "test"))
        labels = np.array(about["places"])[numbers.to_numpy()]

        def open_image(index: int) -> Image.Image:
            content = images[index].as_buffer()
            if not content.size:
                raise ValueError("there is no picture")
            return Image.open(io.BytesIO(content), formats=FORMATS)

        return Records(
            names=table["name"].to_pylist(),
            open=open_image,
            labels=labels.astype(np.int64),
            classes=tuple(printable(name) or repr(name) for name in about["classes"]),
            is_test=None if tests.null_count else tests.to_numpy(),
        )


class _Labels:
    """Numbers the labels in the order in which they come, or as the classes that are declared."""

    def __init__(self) -> None:
        self.declared: tuple[str, ...] | None = None
        self.numbers: dict[int | str, int] = {}
        self.first: PackedImage | None = None

    def declare(self, name: str, classes: tuple[str, ...] | None) -> None:
        """The class names of the next file. Raises UserError unless they are those of the first."""
        if self.first is None:
            self.declared = classes
        elif classes != self.declared:
            raise UserError(
                f"{name}: names the classes {shown(classes or ())}, and the file of {self.first.name} "
                f"{shown(self.declared or ())}; give all files the same names, or none"
            )

    def number(self, sample: PackedImage) -> int:
        """Raises UserError if it is no label, or not of the first one's kind."""
        if self.first is None:
            self.first = sample
            if self.declared and isinstance(sample.label, int):
                self.numbers = {number: number for number in range(len(self.declared))}
        if type(sample.label) is not type(self.first.label):
            raise UserError(
                f"{sample.name}: {_said(sample)}, and {self.first.name}: {_said(self.first)}; allowed: a number for "
                "all, a word for all, or no label"
            )
        label = CLASSLESS if sample.label is None else sample.label
        if isinstance(label, str) and not 0 < len(label) <= MAX_LABEL:
            raise UserError(f"{sample.name}: label {shown(label)}; allowed: 1 to {MAX_LABEL} characters")
        if isinstance(label, int) and (label < 0 or (self.declared and label >= len(self.declared))):
            allowed = f"0 to {len(self.declared) - 1}" if self.declared else "0 and more"
            raise UserError(f"{sample.name}: label {label}; allowed: {allowed}; remove images without a class")
        number = self.numbers.setdefault(label, len(self.numbers))
        if number == MAX_CLASSES:
            raise UserError(
                f"{sample.name}: label {shown(label)} is the {MAX_CLASSES + 1:,}th class; at most {MAX_CLASSES:,} are "
                "allowed"
            )
        return number

    def sorted(self) -> tuple[list[str], list[int]]:
        """The classes, sorted or as declared, and the place among them of number 0, 1, ..."""
        labels: list[Any] = sorted(self.numbers)  # all of one type
        if self.declared and self.first and isinstance(self.first.label, int):
            return list(self.declared), labels
        place = {label: place for place, label in enumerate(labels)}
        return [str(label) for label in labels], [place[label] for label in self.numbers]


def _said(sample: PackedImage) -> str:
    return "no label" if sample.label is None else f"label {shown(sample.label)}"


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
