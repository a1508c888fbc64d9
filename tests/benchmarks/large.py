"""Data larger than memory: time and memory of each stage, on images of 16x16x1 in shards. Appends to docs/large.csv,
and draws docs/large.png of it.

    python -m tests.benchmarks.large COUNT FOLDER [--shard-bytes N]

FOLDER takes 912 bytes an image, 144 of them for the indexes of more than a million, and is removed at the end. 20
million images take 18 GB there.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import os
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import torch

from ddpm.base.errors import UserError
from ddpm.base.files import write_json
from ddpm.base.settings import section
from ddpm.data.preprocessing import preprocess
from ddpm.data.processed import SHARD_BYTES, open_split, read_manifest
from ddpm.data.settings import Data
from ddpm.evaluation import evaluation
from ddpm.evaluation.bounds import Job
from ddpm.model.file import load_model
from ddpm.pictures import plots
from ddpm.sampling.generator import Generator, write_set
from ddpm.sampling.settings import Sample
from ddpm.scoring import calibration
from ddpm.scoring.reference import make_reference
from ddpm.scoring.settings import Evaluate, Likelihood
from ddpm.training.checkpoints import Checkpoints
from ddpm.training.trainer import train
from ddpm.variants.datasets.arrays import Arrays
from ddpm.variants.datasets.mixture import Mixture
from ddpm.variants.samplers.ddim import DDIM
from tests.benchmarks.train import preset
from tests.small import Memory

DRAWN = 20_000  # images of the mixture, repeated with other shifts and flips
STEPS, SAMPLES = 100, 1000
CPU = torch.device("cpu")
SCORED = Evaluate(extractors=("random_conv",), metrics=("fid", "kid"), likelihood=Likelihood(images=0))
DATA = Data(dataset=Arrays(), image_size=16, channels=1)
COLUMNS = ("images", "stage", "seconds", "cpu_seconds", "peak_mib")


def draw(folder: Path, count: int) -> None:
    """own.npy: the mixture's images, each time shifted or flipped in another way."""
    mixture = Mixture(count=DRAWN)
    mixture.download(None, folder / "mixture")
    with np.load(folder / "mixture/mixture.npz") as drawn:
        images = drawn["images"]
    out = np.lib.format.open_memmap(folder / "own.npy", "w+", np.uint8, (count, 16, 16))
    changes = itertools.product((1, -1), (1, -1), range(16), range(16))
    for first, (up, left, down, right) in zip(range(0, count, DRAWN), changes, strict=False):
        part = out[first : first + DRAWN]
        part[:] = np.roll(images[: len(part), ::up, ::left], (down, right), (1, 2))
    out.flush()


def download(folder: Path) -> None:
    DATA.dataset.download(str(folder / "own.npy"), folder / "raw")


def prepare(folder: Path, shard_bytes: int) -> None:
    preprocess(DATA, folder / "raw", folder / "processed", None, folder / "parts", shard_bytes)


def fit(folder: Path) -> None:
    os.chdir(folder)
    images, _ = open_split(Path("processed"), "train")
    config = preset("digits", batch_size=64, steps=STEPS).training()
    train(config, images, CPU, Path("model"), Checkpoints("large"), Memory())


def sample(folder: Path) -> None:
    options = section(Sample, {"count": SAMPLES, "sampler": DDIM(), "steps": 20})
    model = load_model(folder / "model/model.safetensors", CPU)
    write_set(Generator.of(model, options, CPU), options, 0, model.image_shape, folder / "samples.npy")


def reference(folder: Path) -> None:
    make_reference(SCORED, folder / "processed", folder / "reference", CPU)
    found = calibration.calibrate(SCORED, folder / "processed", folder / "reference", CPU)
    write_json(folder / "reference" / calibration.FILE, found)


def evaluate(folder: Path) -> None:
    model, sets = load_model(folder / "model/model.safetensors", CPU), {0: folder / "samples.npy"}
    evaluation.evaluate(sets, Job(model, folder / "processed", folder / "reference", SCORED, CPU))


def measured(stage: str, count: int, *arguments: str) -> list[str]:
    """A row of ``COLUMNS``. peak_mib is what the process and its children hold together at most, pages of files apart,
    which the kernel can take back."""
    child = psutil.Popen([sys.executable, "-m", "tests.benchmarks.large", *arguments, "--stage", stage])
    start, peak = time.perf_counter(), 0
    while True:
        pid, status, usage = os.wait4(child.pid, os.WNOHANG)
        if pid:
            break
        try:
            tree = [child, *child.children(recursive=True)]
            held = [one.memory_info() for one in tree]
            peak = max(peak, sum(one.rss - one.shared for one in held))
        except psutil.NoSuchProcess:
            continue
        time.sleep(0.2)
    seconds = time.perf_counter() - start
    if status:
        raise UserError(f"{stage}: failed")
    return [str(count), stage, f"{seconds:.1f}", f"{usage.ru_utime + usage.ru_stime:.1f}", f"{peak / 2**20:.0f}"]


def picture(rows: list[dict[str, str]]) -> list[plots.Panel]:
    """CPU time and memory of each stage against the number of images."""
    stages = dict.fromkeys(row["stage"] for row in rows)
    made = []
    for column, title in (("cpu_seconds", "CPU seconds"), ("peak_mib", "memory in MiB")):
        curves = {
            stage: np.array([(float(row["images"]), float(row[column])) for row in rows if row["stage"] == stage])
            for stage in stages
        }
        made.append(plots.Panel(f"{title} of a stage", "images", title, curves, log="xy", points=True))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.large", description=__doc__.splitlines()[0])
    parser.add_argument("count", type=int)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shard-bytes", type=int, default=SHARD_BYTES)
    parser.add_argument("--stage")
    parsed = parser.parse_args()
    folder = parsed.folder.absolute()
    stages = {
        "draw": lambda: draw(folder, parsed.count),
        "download": lambda: download(folder),
        "preprocess": lambda: prepare(folder, parsed.shard_bytes),
        "reference": lambda: reference(folder),
        "train": lambda: fit(folder),
        "sample": lambda: sample(folder),
        "evaluate": lambda: evaluate(folder),
    }
    if parsed.stage:
        stages[parsed.stage]()
        return
    folder.mkdir(parents=True)
    path = Path("docs/large.csv")
    if not path.exists():
        path.write_text(f"{','.join(COLUMNS)}\n")
    try:
        for stage in stages:
            arguments = [str(parsed.count), str(folder), "--shard-bytes", str(parsed.shard_bytes)]
            row = measured(stage, parsed.count, *arguments)
            with path.open("a", newline="") as file:
                csv.writer(file).writerow(row)
            print(*row, flush=True)
        manifest = read_manifest(folder / "processed")
        print(manifest.counted(), {split: len(shards) for split, shards in manifest.shards.items()})
        with path.open(newline="") as file:
            plots.lines(path.with_suffix(".png"), picture(list(csv.DictReader(file))))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
