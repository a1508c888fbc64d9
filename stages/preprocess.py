"""data/raw -> data/processed: uint8 arrays of images of one size, split into train and test."""

import os
import shutil
import sys
from pathlib import Path

from ddpm.base.files import try_lock
from ddpm.base.paths import PROCESSED, RAW
from ddpm.data.preprocessing import preprocess, preprocess_line
from ddpm.data.settings import Data


def main(data: Data, parts: Path) -> None:
    """parts: a folder for what a killed run has finished, of which the name stands for all that the stage reads. Those
    of other inputs that nobody is making are removed."""
    for left in parts.parent.glob("*/*"):
        if left.parent != parts and (lock := try_lock(left)) is not None:
            shutil.rmtree(left.parent, ignore_errors=True)
            os.close(lock)
    manifest = preprocess(data, RAW, PROCESSED, parts=parts)
    picture = PROCESSED / "dataset.png"
    classes = f"{len(manifest.classes)} class{'es' * (len(manifest.classes) != 1)}"
    print(f"{manifest.dataset}: {manifest.counted()} images, {classes}; see {picture}")


def line(data: Data, parts: Path, number: int, lines: int) -> None:
    """Every ``lines``-th shard, from ``number`` (1, 2, ...) on, for a later call of ``main`` with these ``parts``."""
    made, shards = preprocess_line(data, RAW, parts, number, lines)
    of = f"{made} of {shards} shards are made" if shards else "no shards: the images fit into one file"
    print(f"{of}; `dvc repro` makes what is missing of data/processed", file=sys.stderr)
