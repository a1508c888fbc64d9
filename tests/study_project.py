"""A project with stages that take no time, to test what ``ddpm study`` does around the runs: stages/experiment.py and
stages/maker.py are the real ones.

The folder ``control`` sets what goes wrong: ``fail-ARM-SEED`` holds how many times, ``sleep`` how long it trains,
unless that file is removed; ``full-FILE`` that the disk has no space for it. Each stage that runs adds a line to
``control/ran``.
"""

import atexit
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from multiprocessing.context import ForkContext
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from ddpm.arms import pool
from ddpm.params import presets
from ddpm.runs import rows
from ddpm.runs.rows import Rows
from tests import command

STAGES = """
import datetime, os, pathlib, sys, time, types, yaml

import numpy as np

from ddpm.base import files
from ddpm.base.errors import Diverged, UserError
from ddpm.params import config
from ddpm.pictures import grids  # not again in each experiment
from ddpm.runs import library, record, run_images
from ddpm import tools  # a fork of a test's process may know its module already


def preload():
    tools.score = sys.modules["ddpm.tools.score"] = types.SimpleNamespace(score=score)
    sync = files._sync

    def full(path):
        if pathlib.Path(os.environ["DVC_ROOT"], "control", f"full-{path.name}").exists():
            raise OSError(28, "No space left on device")
        sync(path)

    files._sync = full


def prepare(device):
    return "a CPU"


def environment(params):
    return {"processor": "a CPU", "training_precision": "float32"}


def run_here(stage, films=True):
    params = yaml.load(pathlib.Path("params.yaml").read_text(), yaml.CSafeLoader)  # 0.1 s less a stage
    control = pathlib.Path(os.environ["DVC_ROOT"], "control")
    seed, arm = params["seed"], params["diffusion"]["schedule"]["name"]
    if stage in ("reference", "train", "evaluate"):
        with (control / "ran").open("a") as ran:
            ran.write(f"{stage} {arm} {seed}\\n")
    if stage == "train":
        train(params, control, control / f"fail-{arm}-{seed}", f"{arm} {seed} {params['train']}")
    elif stage == "evaluate":
        evaluate(params, seed, arm)
    elif stage in ("download", "preprocess", "reference"):
        pathlib.Path("data").mkdir(exist_ok=True)
        pathlib.Path("data", stage).write_text(stage)
    if stage == "preprocess":  # alone: what it made is linked into every run
        images = pathlib.Path("data/processed/test/images.npy")
        images.parent.mkdir(parents=True)
        np.save(images, np.full((20, 1, 16, 16), 99, np.uint8))


def train(params, control, fault, model):
    sleep = control / "sleep"
    end = time.monotonic() + float(sleep.read_text() if sleep.exists() else 0)
    while sleep.exists() and time.monotonic() < end:
        time.sleep(0.02)
    if fault.exists() and int(fault.read_text()):
        fault.write_text(str(int(fault.read_text()) - 1))
        raise UserError("train: out of luck")
    if params["train"]["learning_rate"] > 0.5:
        raise Diverged("train: out of range")  # whatever it says
    pathlib.Path("data/model").write_text(model)


def evaluate(params, seed, arm):
    run_images.PATH.parent.mkdir(parents=True, exist_ok=True)
    np.save(run_images.PATH, np.full((500, 1, 16, 16), 10 * (seed % 9), np.uint8))
    score = 2 + 0.1 * seed + (arm == "linear") * (-1) ** seed - (arm == "sigmoid")
    comparable = {"samples": 500, "sampling": {"count": 500}}
    scores = {"classifier.fd": score}
    run = record.Record(
        name="workspace", seed=seed, scores=scores, finished=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
        params=library.relevant(config.parse(params, "params.yaml").flat()),
        fingerprint=record.Fingerprint(hash=files.digest(comparable), comparable=comparable),
        costs=record.Costs(images_seen=1, parameters=1, evaluations=1, seconds={"train": 1.0}),
        environment=environment(params),
        curve=record.table([{"images": 1.0, **scores}]),
    )
    record.write_record(run, pathlib.Path("metrics/run.json"))


def score(samples, seed, name, params, costs):
    known = library.relevant(config.load().flat())
    comparable = {"samples": len(np.load(samples))}
    stages = {"seconds": {"program": costs.pop("seconds.program")}}
    return record.Record(
        name=name, seed=seed, program=name, finished=record.now(),
        params={key: value for key, value in known.items() if key.startswith(("data.", "evaluate."))},
        fingerprint=record.Fingerprint(hash=files.digest(comparable), comparable=comparable),
        scores={"classifier.fd": 1.0 + 0.1 * seed}, environment={"scipy": "1"}, costs=costs | stages,
    )
"""
PIPELINE = """
stages:
  download: {params: [data.dataset], outs: [data/download]}
  preprocess: {params: [data], deps: [data/download], outs: [data/preprocess, data/processed]}
  reference: {params: [data], deps: [data/preprocess], outs: [data/reference]}
  train:
    params: [seed, diffusion, train]
    deps: [data/preprocess, stages/__main__.py]
    outs: [data/model]
  sample: {params: [sample], deps: [data/model, stages/__main__.py], outs: []}
  evaluate:
    params: [sample, evaluate]
    deps: [data/model, stages/__main__.py]
    outs: [data/samples/samples.npy]
    metrics: [metrics/run.json: {cache: false}]
"""
STUDY = """\
question: Which schedule?
arms:
  cosine: {diffusion.schedule.name: cosine}
  linear: {diffusion.schedule.name: linear}
looks: [2]
"""
PLAN = Path("studies/tiny.yaml")
RESULTS = Path("metrics/studies/tiny")
ROWS = RESULTS / "rows.jsonl"
NAMED = [f"{arm}-{seed}" for seed in range(3) for arm in ("cosine", "linear")]
NAMES = NAMED[:4]

ROOT = Path(__file__).parents[1]
START = """
import signal, sys

sys.path.insert(0, {root!r})
from ddpm.cli import main

signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs ignore
main(sys.argv[1:])
"""


def make(folder: Path) -> None:
    """The project with its study, committed."""
    shutil.copytree(template(), folder, dirs_exist_ok=True)


@cache
def template() -> Path:
    """The same, to be copied: git takes longer."""
    folder = Path(tempfile.mkdtemp(prefix="ddpm-study-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    params = yaml.safe_load(presets.text("digits_small_2026"))
    params["compare"]["confidence"], params["sample"]["count"] = 0.5, 500
    texts = {
        "params.yaml": yaml.safe_dump(params),
        "dvc.yaml": PIPELINE,
        "stages/__main__.py": STAGES,
        ".gitignore": "/.ddpm/\n/control\n__pycache__/\n/metrics/studies/*/rows.locks/\npage.html\n",
        ".gitattributes": (ROOT / ".gitattributes").read_text(),
        "metrics/run.json": "{}",  # of whatever was run last
        str(PLAN): STUDY,
    }
    for path, text in texts.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    for name in ("__init__", "experiment", "maker"):
        shutil.copy(ROOT / f"stages/{name}.py", folder / "stages")
    (folder / "control").mkdir()
    git("init", "--quiet", "--initial-branch=main", "--template=", at=folder)
    commit("a project", at=folder)
    return folder


def git(*arguments: str, at: Path | None = None) -> str:
    return run("git", *arguments, at=at)


def run(*program: str, at: Path | None = None) -> str:
    done = subprocess.run(program, cwd=at, capture_output=True, text=True)
    assert done.returncode == 0, (program, done.returncode, done.stderr)
    return done.stdout.strip()


def commit(message: str, at: Path | None = None) -> None:
    git("add", "--all", at=at)
    git("commit", "--quiet", "--message", message, at=at)


def ran() -> list[str]:
    """The stages that ran, in order."""
    path = Path("control/ran")
    return path.read_text().splitlines() if path.exists() else []


def records() -> dict:
    """Experiment -> its record."""
    runs = Rows(ROWS).records
    return {name.removeprefix("tiny-"): json.loads(run.text()) for name, run in runs.items()}


def rewrite(path: Path, change: Callable[[dict], dict | None]) -> None:
    """Change the records in a file of rows; None removes one."""
    runs = [change(json.loads(run.text())) for run in Rows(path).records.values()]
    path.unlink()
    for run in filter(None, runs):
        rows.append(path, run)


def change(name: str, **values: object) -> None:
    """Change a record in the study's rows."""
    rewrite(ROWS, lambda run: run | values if run["name"] == f"tiny-{name}" else run)


def remove(*names: str) -> None:
    """Remove rows of the study."""
    rewrite(ROWS, lambda run: None if run["name"].removeprefix("tiny-") in names else run)


def verdict() -> dict:
    return json.loads((RESULTS / "verdict.json").read_text())


def study(*arguments: str) -> int:
    """The exit code of ``ddpm study``."""
    return command.run("study", *arguments)


def start(*arguments: str, group: tuple[str, ...] = ("study", "run")) -> subprocess.Popen[str]:
    """The command as another process."""
    program = [sys.executable, "-c", START.format(root=str(ROOT)), *group, *arguments]
    return subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def until(what: str, patience: float = 300, at: int = 0) -> None:
    """Wait until a stage has run, after the first ``at``."""
    end = time.monotonic() + patience
    while what not in ran()[at:]:
        assert time.monotonic() < end, ran()
        time.sleep(0.02)


class Forked:
    """The Popen of ``Pool``: a process like the one that ``Pool`` starts, forked from this one, which has imported ddpm
    already. A new one takes 0.4 s of each test."""

    def __init__(self, command: list[str], *, cwd: Path, env: dict[str, str], **_: object):
        (asked, stdin), (stdout, answers) = os.pipe(), os.pipe()
        self.stdin, self.stdout = open(stdin, "wb", 0), open(stdout, "rb", 0)  # noqa: PTH123, SIM115
        self.process = ForkContext().Process(target=_serve, args=(command[-1], cwd, env, asked, answers))
        self.process.start()
        self.pid = self.process.pid
        os.close(asked)
        os.close(answers)

    def wait(self, timeout: float | None = None) -> int:
        self.process.join(timeout)
        if self.process.is_alive():
            raise subprocess.TimeoutExpired("the server", timeout or 0)
        return self.process.exitcode


def _serve(options: str, folder: Path, environment: dict[str, str], asked: int, answers: int) -> None:
    """What ``pool.START`` does, after what starting Python does."""
    os.setpgid(0, 0)
    os.dup2(asked, 0)
    os.dup2(answers, 1)
    os.closerange(3, 4096)
    sys.stdout, sys.stderr = open(1, "w"), open(2, "w", buffering=1)  # noqa: SIM115
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for name in [name for name in sys.modules if name.partition(".")[0] == "stages"]:
        del sys.modules[name]  # the folder has its own
    sys.path.insert(0, os.getcwd())  # noqa: PTH109
    sys.argv = ["-c", options]
    importlib.import_module("stages.maker").main()


def enter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in that project, without tracking."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DDPM_TRACKING", "off")
    forked = SimpleNamespace(Popen=Forked, PIPE=subprocess.PIPE, TimeoutExpired=subprocess.TimeoutExpired)
    monkeypatch.setattr(pool, "subprocess", forked)
