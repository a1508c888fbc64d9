"""Raw records -> uint8 arrays of images of one size: decoded once, in parallel, in bounded memory."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import struct
import sys
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from functools import lru_cache
from multiprocessing import get_context, parent_process
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Thread
from typing import IO, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm import tqdm

from ddpm.base import files
from ddpm.base.errors import UserError, printable
from ddpm.base.machine import cores
from ddpm.base.progress import bar
from ddpm.base.settings import Shape
from ddpm.data.processed import MANIFEST, SHARD_BYTES, SPLITS, Manifest, Shard, named, open_split, shard_name
from ddpm.data.settings import Data, Resize
from ddpm.pictures import plots
from ddpm.sources.dataset import MODES, Dataset, Records, picture

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


def preprocess(
    data: Data,
    raw: Path,
    processed: Path,
    workers: int | None = None,
    parts: Path | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> Manifest:
    """Write train/ and test/ {images,labels}.npy, manifest.json and dataset.png under ``processed``, all or nothing.

    A split of more than ``shard_bytes`` becomes shards, which processes share out. If this is killed, the finished ones
    stay in ``parts``, and the same call makes the others. ``workers`` affects only the speed. Raises UserError when an
    image cannot be decoded (with data.on_error: fail), or when a split would be empty.
    """
    records = data.dataset.read(raw)
    workers = workers or cores()
    size = max(1, shard_bytes // math.prod(data.shape))
    broken: dict[int, str] = {}
    kept, shards = {}, {}
    with files.atomic_path(processed) as folder:
        for split, indices in zip(SPLITS, split_indices(records, data.test_fraction, data.split_seed), strict=True):
            made = folder / split
            made.mkdir(parents=True)
            with bar(len(indices), f"preprocess {split}", "images") as progress:
                if len(indices) <= size:
                    unreadable = _write_images(made / "images.npy", records, indices, data, workers, progress)
                else:
                    pieces = [indices[first : first + size] for first in range(0, len(indices), size)]
                    place = (parts or folder.with_name("parts")) / split
                    shards[split], unreadable = _share_out(pieces, place, made, data, raw, workers, progress)
            kept[split] = records.labels[indices[~np.isin(indices, list(unreadable))]]
            np.save(made / "labels.npy", kept[split])
            broken |= unreadable
        _report({records.names[index]: reason for index, reason in broken.items()}, len(records.names), data.on_error)
        for split, labels in kept.items():
            if not len(labels):
                raise UserError(
                    f"data.test_fraction: {data.test_fraction} of {len(records.names)} images leaves none for {split}"
                )
        manifest = Manifest(
            dataset=data.dataset.name,
            classes=records.classes,
            image_size=data.image_size,
            channels=data.channels,
            counts={split: len(labels) for split, labels in kept.items()},
            skipped=len(broken),
            sha256={split: files.sha256(folder / split, named(shards.get(split, ()))) for split in SPLITS},
            shards=shards,
        )
        # a file that is not sharded has no key for it, as before there were shards: the file is a dependency
        files.write_json(folder / MANIFEST, manifest.model_dump(exclude_defaults=True))
        images, labels = open_split(folder, "train")
        plots.dataset_grid(folder / "dataset.png", images, labels, records.classes)
    if parts:
        shutil.rmtree(parts, ignore_errors=True)
    return manifest


def split_indices(records: Records, test_fraction: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of the train and the test records: the source's own split, or else one stratified by class.

    The source's split keeps its order. A new one depends only on the seed and the records' names and labels; its order
    is shuffled, so that the first n images are a fair sample too.
    """
    if records.is_test is not None:
        return np.flatnonzero(~records.is_test), np.flatnonzero(records.is_test)
    named = (f"{seed}:{name}".encode(errors="surrogateescape") for name in records.names)
    rank = np.fromiter((hashlib.sha256(name).digest() for name in named), "S32", len(records.names))
    shuffled = np.argsort(rank, kind="stable")
    by_class = shuffled[np.argsort(records.labels[shuffled], kind="stable")]
    # every 1/test_fraction-th of the list by class: within one image of the fraction, overall and in each class
    in_test = np.zeros(len(rank), dtype=bool)
    in_test[by_class] = np.diff(np.floor(np.arange(len(rank) + 1) * test_fraction + 0.5)) > 0
    return shuffled[~in_test[shuffled]], shuffled[in_test[shuffled]]


def to_pixels(image: Image.Image | Pixels, shape: Shape, resize: Resize) -> Pixels:
    """A PIL image of any size and mode, or (H, W) or (H, W, C) uint8, as uint8 of the ``shape``.

    It is turned upright by its EXIF orientation, put on white if transparent, rounded from 16 bits to 8, and resized
    with an antialiased bicubic filter, an array's channels each by itself. Raises what PIL raises for a broken file,
    ValueError for an image that is too large, has no fixed range, or is an array of another number of channels, and
    UserError if data.channels is neither 1 nor 3 for a picture.
    """
    if isinstance(image, np.ndarray):
        planes = image.reshape(*image.shape[:2], -1).transpose(2, 0, 1)
        if planes.shape == shape:  # as PIL would return it, at an eighth of the time
            return planes
        image = picture(image)
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


def _write_images(
    path: Path, records: Records, indices: NDArray[np.int64], data: Data, workers: int, progress: tqdm[NoReturn]
) -> dict[int, str]:
    """Write the array of those records that can be read. Returns why the others cannot, by index."""

    def decode(batch: NDArray[np.int64]) -> list[Pixels | str]:
        return [_decode(records, int(index), data) for index in batch]

    size = max(1, min(BATCH, BATCH_BYTES // math.prod(data.shape)))
    batches = (indices[start : start + size] for start in range(0, len(indices), size))
    broken: dict[int, str] = {}
    with path.open("wb") as out:
        _write_header(out, len(indices), data)
        done = 0
        for decoded in _parallel(decode, batches, min(workers, MAX_WORKERS)):
            for index, pixels in zip(indices[done : done + size].tolist(), decoded, strict=True):
                if isinstance(pixels, str):
                    broken[index] = pixels
                else:
                    out.write(pixels.tobytes())
            done += len(decoded)
            progress.update(len(decoded))
        out.seek(0)
        _write_header(out, len(indices) - len(broken), data)
    return broken


def _share_out(
    pieces: list[NDArray[np.int64]],
    parts: Path,
    folder: Path,
    data: Data,
    raw: Path,
    workers: int,
    progress: tqdm[NoReturn],
) -> tuple[tuple[Shard, ...], dict[int, str]]:
    """Write a shard of each piece to ``parts``, unless it is there, and then move them all to ``folder``.

    Returns them without those that would be empty, and why some records cannot be read, by index. Raises UserError when
    a process dies, or another call has the same ``parts``.
    """
    parts.mkdir(parents=True, exist_ok=True)
    lock = files.try_lock(parts)
    if lock is None:
        raise UserError(f"{parts}: another process is making these images: wait for it, or stop it")
    paths = [parts / shard_name(number) for number in range(len(pieces))]
    # spawned, because a fork of a process with threads may hang; they would outlive a parent that is killed
    pool = ProcessPoolExecutor(min(workers, len(pieces)), get_context("spawn"), _die_with_parent)
    found = []
    try:
        tasks = [pool.submit(_make_shard, *task, data, raw) for task in zip(paths, pieces, strict=True)]
        for task, piece in zip(tasks, pieces, strict=True):
            found.append(task.result())
            progress.update(len(piece))
    except BrokenProcessPool as error:
        raise UserError(
            "data/processed: one of the processes that make it was killed, perhaps because memory ran out; run "
            "`dvc repro` again: finished shards are kept"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)
        os.close(lock)
    made: list[Shard] = []
    broken: dict[int, str] = {}
    for path, piece, (sha256, unreadable) in zip(paths, pieces, found, strict=True):
        broken |= unreadable
        if count := len(piece) - len(unreadable):
            shutil.move(path, folder / shard_name(len(made)))
            made.append(Shard(count=count, sha256=sha256))
    return tuple(made), broken


def _make_shard(path: Path, indices: NDArray[np.int64], data: Data, raw: Path) -> tuple[str, dict[int, str]]:
    """Write a shard and its facts, unless they are there: its sha256, and why some records cannot be read, by index."""
    about = path.with_suffix(".json")
    if about.exists() and path.exists():
        sha256, broken = files.read_json(about)
        if files.sha256(path) == sha256:
            return sha256, dict(broken)
    with files.atomic_path(path) as temporary, bar(len(indices), path.name, "images", shown=False) as progress:
        unreadable = _write_images(temporary, _records(data.dataset, raw), indices, data, 1, progress)
    facts = files.sha256(path), unreadable
    files.write_json(about, [facts[0], list(unreadable.items())])
    return facts


@lru_cache(maxsize=1)
def _records(dataset: Dataset, raw: Path) -> Records:
    """Once in a process that makes several shards."""
    return dataset.read(raw)


def _die_with_parent() -> None:
    def wait(parent: BaseProcess) -> None:
        parent.join()
        os._exit(1)

    Thread(target=wait, args=(parent_process(),), daemon=True).start()


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
