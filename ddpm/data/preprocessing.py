"""Raw records -> uint8 arrays of images of one size: decoded once, in parallel, in bounded memory."""

from __future__ import annotations

import hashlib
import math
import struct
import sys
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import IO, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from ddpm.base import files
from ddpm.base.errors import UserError, printable
from ddpm.base.machine import cores
from ddpm.base.progress import bar
from ddpm.base.settings import Shape
from ddpm.data.processed import MANIFEST, SPLITS, Manifest
from ddpm.data.settings import Data, Resize
from ddpm.pictures import plots
from ddpm.sources.dataset import MODES, Records

T = TypeVar("T")
R = TypeVar("R")
Pixels = NDArray[np.uint8]

MAX_PIXELS = 90_000_000  # 270 MB decoded: more is a decompression bomb, or a scan to cut up first
MAX_WORKERS = 16  # photos that are decoded at a time
BATCH = 32
BATCH_BYTES = 2**21
MAX_NAMED = 5
# what PIL's readers raise for damaged files
BROKEN = (Image.DecompressionBombError, EOFError, IndexError, OSError, SyntaxError, TypeError, ValueError,
          struct.error, zlib.error)  # fmt: skip


def preprocess(data: Data, raw: Path, processed: Path, workers: int | None = None) -> Manifest:
    """Write train/ and test/ {images,labels}.npy, manifest.json and dataset.png under ``processed``, all or nothing.

    ``workers`` affects only the speed. Raises UserError when an image cannot be decoded (with data.on_error: fail), or
    when a split would be empty.
    """
    records = data.dataset.read(raw)
    broken: dict[str, str] = {}
    counts = {}
    with files.atomic_path(processed) as folder:
        for split, indices in zip(SPLITS, split_indices(records, data.test_fraction, data.split_seed), strict=True):
            (folder / split).mkdir(parents=True)
            counts[split] = _write_split(folder / split, records, indices, data, workers or cores(), broken)
        _report(broken, len(records.names), data.on_error)
        for split, count in counts.items():
            if not count:
                raise UserError(
                    f"data.test_fraction: {data.test_fraction} of {len(records.names)} images leaves none for {split}"
                )
        manifest = Manifest(
            dataset=data.dataset.name,
            classes=records.classes,
            image_size=data.image_size,
            channels=data.channels,
            counts=counts,
            skipped=len(broken),
            sha256={split: files.sha256(folder / split) for split in SPLITS},
        )
        plots.dataset_grid(
            folder / "dataset.png",
            np.load(folder / "train/images.npy", mmap_mode="r"),
            np.load(folder / "train/labels.npy"),
            records.classes,
        )
        files.write_json(folder / MANIFEST, manifest.model_dump())
    return manifest


def split_indices(records: Records, test_fraction: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of the train and the test records: the source's own split, or else one stratified by class.

    The source's split keeps its order. A new one depends only on the seed and the records' names and labels; its order
    is shuffled, so that the first n images are a fair sample too.
    """
    if records.is_test is not None:
        return np.flatnonzero(~records.is_test), np.flatnonzero(records.is_test)
    rank = [hashlib.sha256(f"{seed}:{name}".encode(errors="surrogateescape")).digest() for name in records.names]
    shuffled = np.array(sorted(range(len(rank)), key=rank.__getitem__), dtype=np.int64)
    by_class = shuffled[np.argsort(records.labels[shuffled], kind="stable")]
    # every 1/test_fraction-th of the list by class: within one image of the fraction, overall and in each class
    in_test = np.zeros(len(rank), dtype=bool)
    in_test[by_class] = np.diff(np.floor(np.arange(len(rank) + 1) * test_fraction + 0.5)) > 0
    return shuffled[~in_test[shuffled]], shuffled[in_test[shuffled]]


def to_pixels(image: Image.Image | Pixels, shape: Shape, resize: Resize) -> Pixels:
    """A PIL image of any size and mode, or (H, W, C) uint8, as uint8 of the ``shape``.

    It is turned upright by its EXIF orientation, put on white if transparent, rounded from 16 bits to 8, and resized
    with an antialiased bicubic filter, an array's channels each by itself. Raises what PIL raises for a broken file,
    ValueError for an image that is too large, has no fixed range, or is an array of another number of channels, and
    UserError if data.channels is neither 1 nor 3 for a picture.
    """
    if isinstance(image, np.ndarray):
        if image.shape[2] != shape.channels:
            raise ValueError(f"{image.shape[2]} channels, and data.channels is {shape.channels}")
        gray = shape._replace(channels=1)
        return np.concatenate([to_pixels(Image.fromarray(plane), gray, resize) for plane in np.moveaxis(image, 2, 0)])
    if shape.channels not in MODES:
        raise UserError(f"data.channels: {shape.channels} is not allowed for pictures; allowed: 1 and 3")
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{image.width}x{image.height} pixels; at most {MAX_PIXELS:,} are allowed")
    ImageOps.exif_transpose(image, in_place=True)
    image, mode = _opaque(image), MODES[shape.channels]
    if image.mode != mode:  # convert always copies
        image = image.convert(mode)
    channels, height, width = shape
    across, down = map(float, image.size)
    if resize == "crop":  # to the shape of the result
        across, down = min(across, down * width / height), min(down, across * height / width)
    left, top = (image.width - across) / 2, (image.height - down) / 2
    box = (left, top, left + across, top + down)
    image = image.resize((width, height), Image.Resampling.BICUBIC, box=box)
    return np.asarray(image).reshape(height, width, channels).transpose(2, 0, 1)


def _opaque(image: Image.Image) -> Image.Image:
    """The image with 8 bits per channel and no transparency. Raises ValueError if its range is not fixed."""
    if image.mode == "I" or image.mode.startswith("I;16"):
        levels = np.asarray(image)
        if levels.min() < 0 or levels.max() > np.iinfo(np.uint16).max:
            raise ValueError("32-bit integers without a fixed range")
        return Image.fromarray(((levels.astype(np.int32) + 128) // 257).astype(np.uint8))  # 65535 / 255 = 257
    if image.mode == "F":
        raise ValueError("floating point without a fixed range")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image


def _write_split(
    folder: Path, records: Records, indices: NDArray[np.int64], data: Data, workers: int, broken: dict[str, str]
) -> int:
    """Write the split's arrays without its broken images, which are added to ``broken``. Returns the image count."""

    def decode(batch: NDArray[np.int64]) -> list[Pixels | str]:
        return [_decode(records, int(index), data) for index in batch]

    size = max(1, min(BATCH, BATCH_BYTES // math.prod(data.shape)))
    batches = [indices[start : start + size] for start in range(0, len(indices), size)]
    kept = []
    with (
        (folder / "images.npy").open("wb") as out,
        bar(len(indices), f"preprocess {folder.name}", "images") as progress,
    ):
        _write_header(out, len(indices), data)
        for batch, decoded in zip(batches, _parallel(decode, batches, min(workers, MAX_WORKERS)), strict=True):
            for index, pixels in zip(batch, decoded, strict=True):
                if isinstance(pixels, str):
                    broken[records.names[index]] = pixels
                else:
                    out.write(pixels.tobytes())
                    kept.append(index)
            progress.update(len(batch))
        out.seek(0)
        _write_header(out, len(kept), data)
    np.save(folder / "labels.npy", records.labels[kept])
    return len(kept)


def _write_header(out: IO[bytes], count: int, data: Data) -> None:
    """numpy pads the header for a growing first axis, so a header for fewer images has the same length."""
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, *data.shape)}
    np.lib.format.write_array_header_1_0(out, header)


def _decode(records: Records, index: int, data: Data) -> Pixels | str:
    """The record's pixels, or the reason why they cannot be read."""
    try:
        image = records.open(index)
        with nullcontext() if isinstance(image, np.ndarray) else image:
            return to_pixels(image, data.shape, data.resize)
    except UnidentifiedImageError:  # its own text is the address of a buffer
        return "not an image, or not in a supported format"
    except BROKEN as error:
        return str(error) or type(error).__name__


def _parallel(function: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[R]:
    """``map`` over threads, in order, never more than two items per thread ahead.

    Threads are enough: PIL releases the interpreter's lock while it decodes and resizes, and nothing is copied.
    """
    pending: deque[Future[R]] = deque()
    with ThreadPoolExecutor(workers) as executor:
        for item in items:
            pending.append(executor.submit(function, item))
            if len(pending) > 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _report(broken: dict[str, str], total: int, on_error: str) -> None:
    """With ``on_error`` "fail", raises UserError that names the first few broken images; else prints them all."""
    lines = [f"{name} ({reason})" for name, reason in broken.items()]
    if broken and on_error == "fail":
        more = f" and {len(lines) - MAX_NAMED} more" if len(lines) > MAX_NAMED else ""
        raise UserError(
            f"data.on_error: {len(lines)} of {total} images cannot be read: {'; '.join(lines[:MAX_NAMED])}{more}; "
            "fix or remove them, or set data.on_error: skip"
        )
    for line in lines:
        print(f"skipped {printable(line)}", file=sys.stderr)
