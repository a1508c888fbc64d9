"""How cost grows: draws docs/growth.png and writes docs/growth.csv.

    python -m tests.benchmarks.growth [--quick] [--out FOLDER]      # about 10 minutes on a quiet machine

Time against the number of images (preprocess, and an epoch of training), the image's side (a training step), T
(all ancestral steps of an image, and a training step), the number of samples, and the number of ranks (a training
step). The digits preset's network throughout. Points are medians; the exponent k of t ~ x^k is fitted in logarithms.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from ddpm.base import variant
from ddpm.base.errors import exit_code
from ddpm.base.files import atomic_path
from ddpm.base.sections import section
from ddpm.data.data_params import Data
from ddpm.data.preprocessing import preprocess
from ddpm.data.processed import open_split
from ddpm.model import build
from ddpm.model.model_file import Loaded
from ddpm.params.config import Config
from ddpm.pictures import plots
from ddpm.sampling.generator import Generator
from ddpm.sampling.sample_params import Sample
from ddpm.training.trainer import Trainer
from ddpm.variants.datasets.image_folder import ImageFolder
from tests.benchmarks.data import write_photos
from tests.benchmarks.harness import Case, Options, ThisMachine, measure
from tests.benchmarks.train import TrainStage, pictures, preset

ROUNDS = 3
BATCH = 16
CPU = torch.device("cpu")


class Point(NamedTuple):
    """panel: what grows; curve: what is timed; x: how large; seconds: how long; contended: by other processes."""

    panel: str
    curve: str
    x: int
    seconds: float
    contended: bool


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.growth", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("docs"), help="folder (%(default)s)")
    parsed = parser.parse_args(arguments)
    sys.exit(exit_code(lambda: run(parsed.quick, parsed.out)))


def run(quick: bool, out: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        options = Options(quick, Path(scratch), None, CPU)
        points = [point for panel, grown in PANELS.items() for point in tqdm(grown(options, panel), panel, leave=False)]
    with atomic_path(out / "growth.csv") as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Point._fields)
        writer.writerows(point._replace(contended=int(point.contended)) for point in points)
    plots.lines(out / "growth.png", panels(points))
    print(f"{out / 'growth.png'}, {out / 'growth.csv'}")
    if any(point.contended for point in points):
        print("some points were measured while other processes used the CPU: repeat on a quiet machine")


def panels(points: list[Point]) -> list[plots.Panel]:
    """A panel for each thing that grows; the names of its curves include their exponents."""
    made = []
    for title in dict.fromkeys(point.panel for point in points):
        inside = [point for point in points if point.panel == title]
        curves = {}
        for name in dict.fromkeys(point.curve for point in inside):
            xy = np.array([(point.x, point.seconds) for point in inside if point.curve == name], dtype=np.float64)
            curves[f"{name}: {exponent(xy):.2f}" if len(xy) > 1 else name] = xy
        made.append(plots.Panel(f"growth with {title}", title, "seconds", curves, log="xy", points=True))
    return made


def exponent(xy: np.ndarray) -> float:
    """k of the least-squares fit of y = c x^k; xy is (N, 2), positive."""
    return float(np.polyfit(*np.log(xy).T, 1)[0])


def _point(
    options: Options, panel: str, curve: str, x: int, run: Callable[[], float | None], warm: bool = True
) -> Point:
    case = Case(f"{panel} {x} {curve}", "-", run, warm=warm)
    timing = measure([case], 1 if options.quick else ROUNDS, ThisMachine())[case.key]
    return Point(panel, curve, x, timing.seconds.median, not timing.trusted)


def images(options: Options, panel: str) -> Iterator[Point]:
    for count in (20, 40) if options.quick else (500, 1000, 2000, 4000):
        folder = options.scratch / f"photos-{count}"
        write_photos(folder / "photos", count, None)
        data = section(Data, {"dataset": ImageFolder(), "image_size": 16, "channels": 1})
        data.dataset.download(str(folder / "photos"), folder / "raw")
        yield _point(options, panel, "preprocess", count, _preprocessing(data, folder))
        train, _ = open_split(folder / "done", "train")
        yield _point(
            options, panel, "an epoch", count, _training(preset("digits", batch_size=BATCH), train, len(train) // BATCH)
        )


def sides(options: Options, panel: str) -> Iterator[Point]:
    for side in (16, 32) if options.quick else (16, 32, 64, 128):
        chosen = _resized(side)
        yield _point(options, panel, "a training step", side, _training(chosen, pictures(chosen), 1))


def chain(options: Options, panel: str) -> Iterator[Point]:
    for T in (10, 20) if options.quick else (125, 250, 500, 1000):
        chosen = preset("digits")
        chosen = chosen.model_copy(update={"diffusion": chosen.diffusion.model_copy(update={"T": T})})
        yield _point(options, panel, "all ancestral steps, 16 images", T, _sampling(chosen, "ancestral", T, 16))
        yield _point(options, panel, "a training step", T, _training(chosen, pictures(chosen), 1))


def samples(options: Options, panel: str) -> Iterator[Point]:
    for count in (4, 8) if options.quick else (64, 128, 256, 512, 1024):
        yield _point(options, panel, "20 DDIM steps", count, _sampling(preset("digits"), "ddim", 20, count))


def ranks(options: Options, panel: str) -> Iterator[Point]:
    count = 1
    while count <= (os.cpu_count() or 1):
        stage = TrainStage(
            options.scratch / f"ranks-{count}",
            "digits",
            12 if options.quick else 300,
            {"launch": {"processes": count}},
        )
        yield _point(options, panel, "a training step", count, stage, warm=False)
        count *= 2


PANELS: dict[str, Callable[[Options, str], Iterator[Point]]] = {
    "images": images,
    "image side": sides,
    "T": chain,
    "samples": samples,
    "ranks": ranks,
}


def _resized(side: int) -> Config:
    chosen = preset("digits", batch_size=BATCH)
    return chosen.model_copy(update={"data": chosen.data.model_copy(update={"image_size": side})})


def _preprocessing(data: Data, folder: Path) -> Callable[[], None]:
    def run() -> None:
        preprocess(data, folder / "raw", folder / "done")

    return run


def _training(chosen: Config, images: NDArray[np.uint8], steps: int) -> Callable[[], None]:
    trainer, numbers = Trainer(chosen.training(), images, CPU), itertools.count(1)

    def run() -> None:
        for number in itertools.islice(numbers, steps):
            trainer.step(number)

    return run


def _sampling(chosen: Config, sampler: str, steps: int, count: int) -> Callable[[], None]:
    """``count`` images from an untrained network, which takes as long as a trained one."""
    built = variant.build("samplers", {"name": sampler}, "sample.sampler")
    options = section(Sample, {"count": count, "sampler": built, "steps": steps})
    model = Loaded(build.network(chosen.training()).eval(), chosen.training(), {})
    generator = Generator.of(model, options, CPU)
    shape = chosen.data.shape

    def run() -> None:
        for first in range(0, count, options.batch_size):
            generator.images(range(first, min(first + options.batch_size, count)), 0, shape)

    return run


if __name__ == "__main__":
    main()
