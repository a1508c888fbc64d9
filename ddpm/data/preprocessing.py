"""Raw records -> uint8 arrays of images of one size: decoded once, in parallel, in bounded memory."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, nullcontext
from functools import lru_cache
from multiprocessing import get_context, parent_process
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Thread
from typing import IO, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import UnidentifiedImageError
from tqdm import tqdm

from ddpm.base import files
from ddpm.base.errors import UserError, printable
from ddpm.base.machine import cores
from ddpm.base.progress import bar
from ddpm.data.pixels import BROKEN, Pixels, to_pixels
from ddpm.data.processed import MANIFEST, SHARD_BYTES, SPLITS, Manifest, Shard, Split, named, open_split, shard_name
from ddpm.data.settings import Data
from ddpm.pictures import plots
from ddpm.sources.dataset import Dataset, Records

T = TypeVar("T")
R = TypeVar("R")

MAX_WORKERS = 16  # photos that are decoded at a time
BATCH = 32
BATCH_BYTES = 2**21
MAX_NAMED = 5


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
    broken: dict[int, str] = {}
    kept: dict[Split, NDArray[np.int64]] = {}
    shards: dict[Split, tuple[Shard, ...]] = {}
    with files.atomic_path(processed) as folder:
        for split, pieces in _pieces(records, data, shard_bytes).items():
            made, indices = folder / split, np.concatenate(pieces)
            made.mkdir(parents=True)
            if len(pieces) == 1:
                with bar(len(indices), f"preprocess {split}", "images") as progress:
                    unreadable = _write_images(made / "images.npy", records, indices, data, workers, progress)
            else:
                place = (parts or folder.with_name("parts")) / split
                found = _make_shards(_tasks(place, pieces), False, data, raw, workers)
                shards[split], unreadable = _collected(place, pieces, found, made)
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


def preprocess_line(
    data: Data,
    raw: Path,
    parts: Path,
    line: int,
    lines: int,
    workers: int | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> tuple[int, int]:
    """Make the shards ``line``, ``line`` + ``lines`` and so on, of 1, 2, ..., in ``parts``: ``preprocess`` then has the
    others to make. Calls with other lines may run at the same time, on any machine that sees the folder.

    Returns how many shards these are, and how many there are. Raises UserError as ``preprocess`` does.
    """
    pieces = _pieces(data.dataset.read(raw), data, shard_bytes)
    tasks = [task for split, own in pieces.items() if len(own) > 1 for task in _tasks(parts / split, own)]
    chosen = tasks[line - 1 :: lines]
    if chosen:
        _make_shards(chosen, True, data, raw, workers or cores())
    return len(chosen), len(tasks)


def _pieces(records: Records, data: Data, shard_bytes: int) -> dict[Split, list[NDArray[np.int64]]]:
    """The indices of each shard's records, by split; a single piece is no shard."""
    size = max(1, shard_bytes // math.prod(data.shape))
    splits = zip(SPLITS, split_indices(records, data.test_fraction, data.split_seed), strict=True)
    return {
        split: [indices[first : first + size] for first in range(0, max(1, len(indices)), size)]
        for split, indices in splits
    }


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


def _tasks(parts: Path, pieces: list[NDArray[np.int64]]) -> list[tuple[Path, NDArray[np.int64]]]:
    return [(parts / shard_name(number), piece) for number, piece in enumerate(pieces)]


def _make_shards(
    tasks: list[tuple[Path, NDArray[np.int64]]], shared: bool, data: Data, raw: Path, workers: int
) -> list[tuple[str, dict[int, str]]]:
    """Write a shard of each piece to its path, unless it is there: ``_make_shard``'s results.

    shared: whether other calls may be making shards of these folders. Raises UserError when a process dies, or when a
    call that is not ``shared`` would have company.
    """
    found = []
    with ExitStack() as held:
        for folder in {path.parent for path, _ in tasks}:
            folder.mkdir(parents=True, exist_ok=True)
            if (lock := files.try_lock(folder, shared)) is None:
                raise UserError(f"{folder}: another process is making these images: wait for it, or stop it")
            held.callback(os.close, lock)
        # spawned, because a fork of a process with threads may hang; they would outlive a parent that is killed
        pool = ProcessPoolExecutor(min(workers, len(tasks)), get_context("spawn"), _die_with_parent)
        held.callback(pool.shutdown, cancel_futures=True)
        pending = [pool.submit(_make_shard, *task, data, raw) for task in tasks]
        progress = held.enter_context(
            bar(sum(len(piece) for _, piece in tasks), f"preprocess {tasks[0][0].parent.name}", "images")
        )
        try:
            for each, (_, piece) in zip(pending, tasks, strict=True):
                found.append(each.result())
                progress.update(len(piece))
        except BrokenProcessPool as error:
            raise UserError(
                "data/processed: one of the processes that make it was killed, perhaps because memory ran out; run "
                "`dvc repro` again: finished shards are kept"
            ) from error
    return found


def _collected(
    parts: Path, pieces: list[NDArray[np.int64]], found: list[tuple[str, dict[int, str]]], folder: Path
) -> tuple[tuple[Shard, ...], dict[int, str]]:
    """Move the shards to ``folder``: those that are not empty, and why some records cannot be read, by index."""
    made: list[Shard] = []
    broken: dict[int, str] = {}
    for (path, piece), (sha256, unreadable) in zip(_tasks(parts, pieces), found, strict=True):
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
