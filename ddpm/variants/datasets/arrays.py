"""Your own images as .npy or .npz files of NumPy: uint8, of any number of channels."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ddpm.base.errors import UserError, printable
from ddpm.base.files import open_array
from ddpm.base.sections import Shape
from ddpm.base.variant import quote
from ddpm.sources.archives import open_members
from ddpm.sources.dataset import CLASSLESS, Dataset, Originals
from ddpm.sources.fetch import locate

LAYOUTS = {"NHW": 3, "NHWC": 4, "NCHW": 4}
LABELS = ("labels", "y")  # of an .npz
LABELS_FILE = "labels.npy"  # next to one .npy
NAME = re.compile(r"[\w-]{1,100}")


class Arrays(Dataset):
    """``data.source`` is an .npy or .npz file, a folder of them, or an archive of .npy files. An .npz holds one array
    of images under any name, and may hold their ``labels`` or ``y``; one .npy may have a labels.npy next to it. Labels
    are whole numbers or words, one an image. A file named test holds the test split.

    ``layout`` says what the axes are; it must be given for four axes.
    """

    layout: Literal["NHW", "NHWC", "NCHW"] | None = None

    def refusals(self, image: Shape) -> Iterator[str]:
        """None: the files say how many channels there are."""
        yield from ()

    def fetch(self, source: str | None, folder: Path) -> None:
        """The raw folder holds NAME.npy, images, and NAME.labels.npy of each file: checked, their bytes unchanged."""
        place = locate(source, None, (), folder)
        if place.suffix.lower() == ".npy":
            for path in filter(Path.is_file, (place, place.with_name(LABELS_FILE))):
                with path.open("rb") as stream:
                    _write(stream, folder, _stem(path.name))
        elif place.suffix.lower() == ".npz":
            _unpack(place, folder, place.name)
        else:
            _collect(place, folder)
        images = _images(folder)
        if not images:
            raise UserError(f"data.source: no arrays of images in {place}; allowed: .npy and .npz files")
        if (labels := folder / LABELS_FILE).exists():
            if len(images) != 1:
                raise UserError(f"{place}: {LABELS_FILE} and {len(images)} files of images; give each its own .npz")
            labels.rename(images[0].with_suffix(".labels.npy"))
        self.read(folder)

    def read(self, raw: Path) -> Originals:
        paths = _images(raw)
        opened = {path.stem: self._open(path) for path in paths}
        given = [_labels(path.with_suffix(".labels.npy"), len(opened[path.stem])) for path in paths]
        if len({None if label is None else label.dtype.kind == "U" for label in given}) > 1:
            raise UserError("data.source: some files have labels of words, others numbers or none; give all the same")
        counts = list(map(len, opened.values()))
        classes, numbers = np.array([CLASSLESS]), np.zeros(sum(counts), np.int64)
        if labels := [label for label in given if label is not None]:
            kind = np.result_type(*labels)
            exact = np.dtype(object) if kind.kind == "f" else kind  # numpy rounds int64 and uint64 together to floats
            classes, numbers = np.unique(np.concatenate(labels, dtype=exact), return_inverse=True)
        shown_classes = tuple(printable(str(name)) or repr(str(name)) for name in classes)
        parts = zip(opened.values(), np.split(numbers, np.cumsum(counts)[:-1]), strict=True)
        return Originals.of_arrays(dict(zip(opened, parts, strict=True)), shown_classes)

    def _open(self, path: Path) -> NDArray[Any]:
        """(N, H, W) or (N, H, W, C), memory-mapped. Raises UserError unless its type and axes are the declared ones."""
        images = open_array(path, remedy="fetch it again")
        if images.dtype != np.uint8:
            raise UserError(f"{path.name}: images of {quote(images.dtype.name)}; allowed: uint8, scaled to 0..255")
        layout = self.layout or ("NHW" if images.ndim == 3 else None)
        if layout is None or images.ndim != LAYOUTS[layout]:
            raise UserError(
                f"{path.name}: images of shape {quote(images.shape)} and data.dataset.arrays.layout: {self.layout}; "
                "allowed: NHW for three axes, NHWC or NCHW for four"
            )
        return np.moveaxis(images, 1, -1) if layout == "NCHW" else images


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.npy") if not f".{path.name}".endswith(f".{LABELS_FILE}"))


def _collect(source: Path, folder: Path) -> None:
    """Each .npy and .npz of a folder, or each .npy of an archive."""
    with open_members(source) as members:
        for name, _, stream in members:
            suffix = PurePosixPath(name).suffix.lower()
            if suffix == ".npy":
                _write(stream, folder, _stem(name))
            elif suffix == ".npz":
                if not source.is_dir():  # a limit for each archive in it would be none
                    raise UserError(
                        f"data.source: {source} holds {quote(name)}; allowed in an archive: .npy files; unpack it by "
                        "hand and name the folder"
                    )
                _unpack(source / name, folder, name)


def _unpack(npz: Path, folder: Path, name: str) -> None:
    """The images and labels of one .npz, called ``name`` in messages."""
    with open_members(npz) as members:
        for member, _, stream in members:
            key = PurePosixPath(member).stem
            _write(stream, folder, f"{_stem(name)}.labels" if key in LABELS else _stem(name), f" in {name}: {key!r}")


def _stem(name: str) -> str:
    stem = PurePosixPath(name).stem
    if not NAME.fullmatch(stem):
        raise UserError(f"{quote(name)}: not allowed as a file's name; allowed: letters, digits, _ and -")
    return stem


def _write(stream: IO[bytes], folder: Path, stem: str, of: str = "") -> None:
    path = folder / f"{stem}.npy"
    if path.exists():
        raise UserError(f"data.source: a second array for {stem!r}{of}; allowed: one of images, and labels or y")
    with path.open("wb") as out:
        shutil.copyfileobj(stream, out)


def _labels(path: Path, count: int) -> NDArray[Any] | None:
    """(count,) whole numbers or words; None without a file. Raises UserError when they are anything else."""
    if not path.exists():
        return None
    labels = open_array(path, remedy="fetch it again")
    if labels.dtype.kind not in "iuU" or labels.shape != (count,):
        raise UserError(
            f"{path.name}: labels of {quote(labels.dtype.name)} {quote(labels.shape)}; allowed: {count:,} whole "
            "numbers or words, one an image"
        )
    return np.asarray(labels)
