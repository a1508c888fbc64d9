"""Time until digits are drawn with classifier.fd at most 0.5: by the default preset, by digits_2026, which like the
peers knows no classes, and by two peers' recipes at the learning rate of the latter.

Each recipe starts from nothing with twice as many images as before until its samples are good enough, because its
learning rate follows a plan for the whole length. What counts is the run that got there: training and drawing. A recipe
whose run took longer than PATIENCE and did not get there is given up, with the time of that run: a bound from below.
"""

import itertools
import os
import sys
from collections.abc import Callable
from functools import partial
from time import perf_counter

import yaml

from ddpm.base.files import read_json
from ddpm.base.paths import PROCESSED
from ddpm.params import presets
from tests.benchmarks.harness import Case, Options
from tests.clone import PARAMS, ROOT, Clone

SCORE = "classifier.fd"
TARGET = 0.5
FEWEST = 64_000  # images trained on
PATIENCE = 300.0  # seconds
ROUNDS = 3  # seeds
RATE = 2e-3
OURS = ("digits", "digits_2026")
SCORER = (sys.executable, "-c", "from ddpm.cli import main; main()", "score", "samples.npy")
SCORER += ("--seed=0", "--name=peer", "--out=run.json")
PEERS = {"diffusers": "diffusers_ddpm", "denoising-diffusion-pytorch": "denoising_diffusion"}
Draw = Callable[[int, int], None]  # trains on so many images with a seed, and draws


def cases(options: Options) -> list[Case]:
    project = Clone(options.scratch / "target", OURS[0], {})
    changes = PARAMS if options.quick else {}
    default = yaml.safe_load(presets.text(OURS[0]))
    project.run("dvc", "repro", "reference")
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # whoever takes part gets the same core

    def ours(preset: str, images: int, seed: int) -> None:
        text = presets.text(preset)
        length = {"steps": images // yaml.safe_load(text)["train"]["batch_size"], "grid_every": 0}
        (project.folder / "params.yaml").write_text(text)
        project.set({**changes, "seed": seed, "train": length})
        project.stage("train")
        project.stage("sample")

    def peer(script: str, images: int, seed: int) -> None:
        named = {"data": PROCESSED / "train" / "images.npy", "out": "samples.npy", "seed": seed, "images": images}
        named |= {"samples": default["sample"]["count"], "evaluations": default["sample"]["steps"]}
        named |= {"learning-rate": RATE}
        arguments = (f"--{name}={value}" for name, value in named.items())
        project.run(sys.executable, str(ROOT / "examples/peers" / f"{script}.py"), *arguments)

    def our_score() -> float:
        project.stage("evaluate")
        return float(read_json(project.folder / "metrics/run.json")["scores"][SCORE])

    def score() -> float:
        (project.folder / "run.json").unlink(missing_ok=True)  # of other samples
        project.run(*SCORER, DDPM_TRACKING="off")
        return float(read_json(project.folder / "run.json")["scores"][SCORE])

    goal = float("inf") if options.quick else TARGET
    own = [case(name, partial(ours, name), our_score, goal) for name in OURS]
    return [*own, *(case(name, partial(peer, script), score, goal) for name, script in PEERS.items())]


def case(name: str, draw: Draw, score: Callable[[], float], goal: float) -> Case:
    """A recipe; each call takes the next seed."""
    seeds = itertools.count()

    def run() -> float:
        seed, images = next(seeds), FEWEST
        while True:
            start = perf_counter()
            draw(images, seed)
            seconds = perf_counter() - start
            reached = score()
            print(f"{name}, seed {seed}: {SCORE} {reached:.3g} after {images:,} images, {seconds:.0f} s", flush=True)
            if reached <= goal or seconds > PATIENCE:
                return seconds
            images *= 2

    return Case(f"target: {name}", "auto", run, warm=False)
