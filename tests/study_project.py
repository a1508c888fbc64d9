"""A project with stages that take no time, to test what ``ddpm study`` does around the runs.

The folder ``control`` sets what goes wrong: ``fail-ARM-SEED`` holds how many times, ``sleep`` how long it trains,
unless that file is removed. Each stage that runs adds a line to ``control/ran``.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from ddpm.params import presets
from ddpm.study import slots, worker
from tests import command

STAGE = """
import datetime, os, pathlib, sys, time, yaml

params = yaml.safe_load(pathlib.Path("params.yaml").read_text())
control = pathlib.Path(os.environ["DVC_ROOT"], "control")
stage, seed, arm = sys.argv[1], params["seed"], params["diffusion"]["schedule"]["name"]
with (control / "ran").open("a") as ran:
    ran.write(f"{stage} {arm} {seed}\\n")
fault = control / f"fail-{arm}-{seed}"
if stage == "reference":
    pathlib.Path("data/reference").write_text("reference")
elif stage == "train":
    sleep = control / "sleep"
    end = time.monotonic() + float(sleep.read_text() if sleep.exists() else 0)
    while sleep.exists() and time.monotonic() < end:
        time.sleep(0.02)
    if fault.exists() and int(fault.read_text()):
        fault.write_text(str(int(fault.read_text()) - 1))
        sys.exit("error: train: out of luck")
    if params["train"]["learning_rate"] > 0.5:
        sys.exit("error: train: the loss or its gradient is not finite at step 3")
    pathlib.Path("data/model").write_text(f"{arm} {seed} {params['train']}")
else:
    import numpy as np
    from ddpm.base import files
    from ddpm.params import config
    from ddpm.runs import library, run_images, record

    run_images.PATH.parent.mkdir(parents=True, exist_ok=True)
    np.save(run_images.PATH, np.full((12, 1, 16, 16), 10 * (seed % 9), np.uint8))
    score = 2 + 0.1 * seed + (arm == "linear") * (-1) ** seed - (arm == "sigmoid")
    comparable = {"samples": 12, "sampling": {"count": 12}}
    run = record.Record(
        name="workspace",
        seed=seed,
        finished=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
        params=library.relevant(config.check(params, "params.yaml").flat()),
        code={"stages/stage.py": files.md5(pathlib.Path("stages/stage.py"))},
        fingerprint=record.Fingerprint(hash=files.digest(comparable), comparable=comparable),
        scores={"classifier.fd": score},
        costs=record.Costs(images_seen=1, parameters=1, evaluations=1, seconds={"train": 1.0}),
        environment={"processor": "a CPU", "training_precision": "float32"},
    )
    record.write(run, pathlib.Path("metrics/run.json"))
"""
PIPELINE = """
stages:
  reference:
    cmd: python stages/stage.py reference
    params: [data]
    outs: [data/reference]
  train:
    cmd: python stages/stage.py train
    params: [seed, diffusion, train]
    deps: [data/reference, stages/stage.py]
    outs: [data/model]
  evaluate:
    cmd: python stages/stage.py evaluate
    params: [sample, evaluate]
    deps: [data/model, stages/stage.py]
    outs: [data/samples/samples.npy]
    metrics: [metrics/run.json: {cache: false}]
"""
# what `dvc repro [STAGE]` does with this pipeline, in a tenth of its time: a stage whose command, params and deps are
# known is not run again, its outs are copied
REPRO = """
import hashlib, json, os, pathlib, runpy, shutil, sys, yaml

last = sys.argv[-1]
params, pipeline = (yaml.load(pathlib.Path(name).read_text(), yaml.CSafeLoader) for name in ("params.yaml", "dvc.yaml"))
for name, stage in pipeline["stages"].items():
    deps = {path: hashlib.md5(pathlib.Path(path).read_bytes()).hexdigest() for path in stage.get("deps", [])}
    made_by = json.dumps([stage["cmd"], deps, {key: params[key] for key in stage["params"]}], sort_keys=True)
    cache = pathlib.Path(os.environ["DVC_ROOT"], "control/cache", hashlib.md5(made_by.encode()).hexdigest())
    outs = [*stage["outs"], *(path for each in stage.get("metrics", []) for path in each)]
    if not cache.exists():
        sys.argv = ["stage.py", name]
        runpy.run_path("stages/stage.py")
        half = cache.with_suffix(f".{os.getpid()}")
        for path in outs:
            (half / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, half / path)
        half.rename(cache)
    for path in outs:
        shutil.copy(cache / path, path)
    if name == last:
        break
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
NAMED = [f"{arm}-{seed}" for seed in range(3) for arm in ("cosine", "linear")]
NAMES = NAMED[:4]
ROOT = str(Path(__file__).parent.parent)
START = """
import signal, sys

sys.path.insert(0, {root!r})
from ddpm.cli import main
from tests import study_project

if {quick}:
    study_project.quick()
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs ignore
main(sys.argv[1:])
"""
ASK_DVC, DVC = slots.cache, worker.REPRO


def make(folder: Path) -> None:
    """The project with its study, committed."""
    params = yaml.safe_load(presets.text("digits_small_2026"))
    params["compare"]["confidence"], params["sample"]["count"] = 0.5, 12
    texts = {
        "params.yaml": yaml.safe_dump(params),
        "dvc.yaml": PIPELINE,
        "stages/stage.py": STAGE,
        ".dvc/config": "[core]\n    analytics = false\n",
        ".dvc/.gitignore": "/config.local\n/tmp\n/cache\n",
        ".gitignore": "/.ddpm/\n/control\n/metrics/studies/*/runs/*.lock\n",
        "data/.gitignore": "/reference\n/model\n/samples\n/program\n",
        "metrics/run.json": "{}",  # of whatever was run last
        str(PLAN): STUDY,
    }
    for path, text in texts.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    (folder / "control").mkdir()
    git("init", "--quiet", "--initial-branch=main", at=folder)
    commit("a project", at=folder)


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


def records() -> dict[str, dict[str, Any]]:
    """Experiment -> its record."""
    return {path.stem: json.loads(path.read_text()) for path in (RESULTS / "runs").glob("*.json")}


def verdict() -> dict[str, Any]:
    return json.loads((RESULTS / "verdict.json").read_text())


def study(*arguments: str) -> int:
    """The exit code of ``ddpm study``."""
    return command.run("study", *arguments)


def quick(monkeypatch: pytest.MonkeyPatch | None = None) -> None:
    """Let REPRO stand in for DVC; without ``monkeypatch``, for the rest of the process."""
    put = monkeypatch.setattr if monkeypatch else setattr
    put(worker, "REPRO", (sys.executable, "-c", REPRO))
    put(slots, "cache", lambda: str(Path(".dvc/cache").absolute()))  # of `dvc cache dir`, which takes a second


def thorough(monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC itself."""
    monkeypatch.setattr(worker, "REPRO", DVC)
    monkeypatch.setattr(slots, "cache", ASK_DVC)


def start(*arguments: str, group: tuple[str, ...] = ("study", "run")) -> subprocess.Popen[str]:
    """The command as another process, with the same DVC or stand-in as here."""
    program = [sys.executable, "-c", START.format(root=ROOT, quick=worker.REPRO != DVC), *group, *arguments]
    return subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def until(what: str, patience: float = 300) -> None:
    """Wait until a stage has run."""
    end = time.monotonic() + patience
    while what not in ran():
        assert time.monotonic() < end, ran()
        time.sleep(0.02)


def enter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in that project, with the stand-in for DVC, and without tracking."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(folder.parent / "site"))
    monkeypatch.setenv("DDPM_TRACKING", "off")
    quick(monkeypatch)
