"""Originals -> uint8 arrays of images of one size: decoded once, in parallel, in bounded memory."""

import hashlib
import math
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from ddpm.base import files
from ddpm.base.errors import UserError, printable
from ddpm.base.machine import cores
from ddpm.base.progress import bar
from ddpm.data.data_params import Data
from ddpm.data.pixels import BROKEN, Pixels, explain, to_pixels
from ddpm.data.processed import MANIFEST, SPLITS, Manifest, Split, open_split
from ddpm.pictures import grids
from ddpm.sources.dataset import Originals

MAX_WORKERS = 16  # photos that are decoded at a time
CHUNK_BYTES = 2**26  # of pixels that are decoded before they are written
MAX_NAMED = 5


def preprocess(data: Data, raw: Path, processed: Path) -> Manifest:
    """Write train/ and test/ {images,labels}.npy, manifest.json and dataset.png under ``processed``, all or nothing.

    The arrays may be larger than memory. Raises UserError when an image cannot be decoded (with data.on_error: fail),
    or when a split would be empty.
    """
    originals = data.dataset.read(raw)
    splits = zip(SPLITS, split_indices(originals, data.test_fraction, data.split_seed), strict=True)
    broken: dict[int, str] = {}
    labels: dict[Split, NDArray[np.int64]] = {}
    with files.atomic_path(processed) as folder:
        for split, indices in splits:
            (folder / split).mkdir(parents=True)
            unreadable = _write_images(folder / split, originals, indices, data)
            labels[split] = originals.labels[indices[~np.isin(indices, list(unreadable))]]
            np.save(folder / split / "labels.npy", labels[split])
            broken |= unreadable
        names = originals.names
        _report({names[index]: reason for index, reason in broken.items()}, len(names), data.on_error)
        for split, of_split in labels.items():
            if not len(of_split):
                raise UserError(
                    f"data.test_fraction: {data.test_fraction} of {len(names)} images leaves none for {split}"
                )
        manifest = Manifest(
            dataset=data.dataset.name,
            classes=originals.classes,
            image_size=data.image_size,
            channels=data.channels,
            counts={split: len(of_split) for split, of_split in labels.items()},
            skipped=len(broken),
            sha256={split: files.sha256(folder / split) for split in SPLITS},
            config=data.identity(),
        )
        files.write_json(folder / MANIFEST, manifest.model_dump())
        images, train_labels = open_split(folder, "train")
        rows = {originals.classes[label]: row for label, row in grids.by_class(images, train_labels).items()}
        grids.save_rows(rows, folder / "dataset.png")
    return manifest


def split_indices(originals: Originals, test_fraction: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of the train and the test images: the source's own split, or else one stratified by class.

    The source's split keeps its order. A new one depends only on the seed and the images' names and labels; its order
    is shuffled, so that the first n images are a fair sample too.
    """
    if originals.is_test is not None:
        return np.flatnonzero(~originals.is_test), np.flatnonzero(originals.is_test)
    named = (f"{seed}:{name}".encode(errors="surrogateescape") for name in originals.names)
    rank = np.fromiter((hashlib.sha256(name).digest() for name in named), "S32", len(originals.names))
    shuffled = np.argsort(rank, kind="stable")
    by_class = shuffled[np.argsort(originals.labels[shuffled], kind="stable")]
    # every 1/test_fraction-th of the list by class: within one image of the fraction, overall and in each class
    in_test = np.zeros(len(rank), dtype=bool)
    in_test[by_class] = np.diff(np.floor(np.arange(len(rank) + 1) * test_fraction + 0.5)) > 0
    return shuffled[~in_test[shuffled]], shuffled[in_test[shuffled]]


def _write_images(folder: Path, originals: Originals, indices: NDArray[np.int64], data: Data) -> dict[int, str]:
    """Write images.npy of those images that can be read. Returns why the others cannot, by index."""
    at_once, workers = max(MAX_WORKERS, CHUNK_BYTES // math.prod(data.shape)), min(cores(), MAX_WORKERS)
    broken: dict[int, str] = {}
    with (
        (folder / "images.npy").open("wb") as out,
        bar(len(indices), f"preprocess {folder.name}", "images") as progress,
        ThreadPoolExecutor(workers) as executor,  # PIL releases the interpreter's lock while it decodes and resizes
    ):
        _write_header(out, len(indices), data)
        for start in range(0, len(indices), at_once):
            part = indices[start : start + at_once].tolist()
            for index, pixels in zip(part, executor.map(partial(_decode, originals, data), part), strict=True):
                if isinstance(pixels, str):
                    broken[index] = pixels
                else:
                    out.write(pixels.tobytes())
                progress.update()
        out.seek(0)
        _write_header(out, len(indices) - len(broken), data)
    return broken


def _write_header(out: IO[bytes], count: int, data: Data) -> None:
    """numpy pads the header for a growing first axis, so a header for fewer images has the same length."""
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, *data.shape)}
    np.lib.format.write_array_header_1_0(out, header)


def _decode(originals: Originals, data: Data, index: int) -> Pixels | str:
    """The record's pixels, or the reason why they cannot be read."""
    try:
        image = originals.open(index)
        with nullcontext() if isinstance(image, np.ndarray) else image:
            return to_pixels(image, data.shape, data.resize)
    except BROKEN as error:
        return explain(error)


def _report(broken: dict[str, str], total: int, on_error: str) -> None:
    """With ``on_error`` "fail", raises UserError that names the first few broken images; else prints them all."""
    lines = [f"{name} ({reason})" for name, reason in broken.items()]
    if broken and on_error == "fail":
        what = f"{len(lines)} of {total} images cannot be read, such as {'; '.join(lines[:MAX_NAMED])}"
        raise UserError(
            f"data.on_error: {what}; set data.on_error: skip, or fix or remove them, and `dvc repro -sf download` first"
        )
    for line in lines:
        print(f"skipped {printable(line)}", file=sys.stderr)
