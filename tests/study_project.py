"""A project with stages that take no time, to test what ``ddpm study`` does around the runs.

The folder ``control`` sets what goes wrong: ``fail-VARIANT-SEED`` holds how many times, ``sleep`` how long it trains,
unless that file is removed.
Each stage that runs adds a line to ``control/ran``, with sample.seeds if that is set.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from ddpm.study.verdict import Findings

from ddpm.cli import main
from ddpm.params import presets
from ddpm.runs.alike import Run
from ddpm.study import verdict, worker
from ddpm.study.plan import Study

STAGE = """
import json, os, pathlib, sys, time, yaml

params = yaml.safe_load(pathlib.Path("params.yaml").read_text())
control = pathlib.Path(os.environ["DVC_ROOT"], "control")
stage, seed, variant = sys.argv[1], params["seed"], params["diffusion"]["schedule"]["name"]
sets = params["sample"]["seeds"]
other = f" sampling {sets}" if stage == "evaluate" and sets != [0] else ""
with (control / "ran").open("a") as ran:
    ran.write(f"{stage} {variant} {seed}{other}\\n")
fault = control / f"fail-{variant}-{seed}{other.replace(' ', '-')}"
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
    pathlib.Path("data/model").write_text(f"{variant} {seed}{other}")
    pathlib.Path("metrics/train.json").write_text(json.dumps({"seconds": 1.0, "images_seen": 1, "parameters": 1}))
else:
    moved = 0.01 * sets[0]
    scores = {"classifier": {"fd": 2 + 0.1 * seed + (variant == "linear") + moved % 1}}
    pathlib.Path("metrics/evaluate.json").write_text(json.dumps(scores))
    pathlib.Path("metrics/fingerprint.json").write_text(json.dumps({"hash": "h", "hash_without_sampling": "h"}))
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
    metrics: [metrics/train.json: {cache: false}]
  evaluate:
    cmd: python stages/stage.py evaluate
    params: [sample, evaluate]
    deps: [data/model, stages/stage.py]
    metrics: [metrics/evaluate.json: {cache: false}]
    plots: [metrics/fingerprint.json: {cache: false}]
"""
# what `dvc repro [STAGE]` does with this pipeline, in a tenth of its time: a stage whose command, params and deps are
# known is not run again, its outs are copied; dvc.lock says what ran
REPRO = """
import hashlib, json, pathlib, runpy, shutil, yaml

root, last, lock = pathlib.Path("."), sys.argv[-1], {}
params, pipeline = (yaml.load((root / name).read_text(), yaml.CSafeLoader) for name in ("params.yaml", "dvc.yaml"))

def files(paths):
    return [{"path": path, "md5": hashlib.md5((root / path).read_bytes()).hexdigest()} for path in paths]

for name, stage in pipeline["stages"].items():
    read = {"params.yaml": {key: params[key] for key in stage["params"]}}
    made = {"cmd": stage["cmd"], "deps": files(stage.get("deps", [])), "params": read}
    key = hashlib.md5(json.dumps(made, sort_keys=True).encode()).hexdigest()
    cache, outs = pathlib.Path(os.environ["DVC_ROOT"], "control/cache", key), stage.get("outs", [])
    outs = [*outs, *(path for kind in ("metrics", "plots") for each in stage.get(kind, []) for path in each)]
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
    lock[name] = {**made, "outs": files(outs)}
    (root / "dvc.lock").write_text(yaml.dump({"schema": "2.0", "stages": lock}, Dumper=yaml.CSafeDumper))
    if name == last:
        break
"""
STUDY = """\
question: Which schedule?
variants:
  cosine: {diffusion.schedule.name: cosine}
  linear: {diffusion.schedule.name: linear}
looks: [2]
"""
PLAN = Path("studies/tiny.yaml")
NAMED = [f"tiny-{variant}-{seed}" for seed in range(3) for variant in ("cosine", "linear")]
NAMES = NAMED[:4]


def make(folder: Path) -> None:
    """The project with its study, committed."""
    chosen = yaml.safe_load(presets.text("digits_small"))
    texts = {
        "params.yaml": yaml.safe_dump(chosen | {"compare": chosen["compare"] | {"confidence": 0.5}}),
        "dvc.yaml": PIPELINE,
        "stages/stage.py": STAGE,
        ".dvc/config": "[core]\n    analytics = false\n",
        ".dvc/.gitignore": "/config.local\n/tmp\n/cache\n",
        ".gitignore": "/.ddpm/\n/control/\n",
        "data/.gitignore": "/reference\n/model\n",
        "metrics/.gitkeep": "",
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


def run(*command: str, at: Path | None = None) -> str:
    done = subprocess.run(command, cwd=at, capture_output=True, text=True)
    assert done.returncode == 0, (command, done.returncode, done.stderr)
    return done.stdout.strip()


def commit(message: str, at: Path | None = None) -> None:
    git("add", "--all", at=at)
    git("-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "--message", message, at=at)


def ran() -> list[str]:
    """The stages that ran, in order."""
    path = Path("control/ran")
    return path.read_text().splitlines() if path.exists() else []


def refs() -> dict[str, str]:
    """Experiment -> its commit."""
    lines = git("for-each-ref", "--format=%(refname:lstrip=4) %(objectname)", "refs/exps").splitlines()
    return dict(line.split() for line in lines)


def study(*arguments: str) -> int:
    """The exit code of ``ddpm study``."""
    with pytest.raises(SystemExit) as left:
        main(["study", *arguments])
    return int(left.value.code or 0)


# the statistics are tested elsewhere: here a variant is decided at the last look, or when the test says so


def judge(study: Study, found: Mapping[str, Mapping[int, Run]]) -> Findings:
    decided = dict(line.split() for line in os.environ.get("DECIDED", "").splitlines())
    complete = min(map(len, found.values()))
    looks = {name: int(decided.get(name, study.plan.looks[-1])) for name in study.params if name != study.baseline}
    still = [name for name, look in looks.items() if len(found[name]) < look]
    ahead = [look for look in study.plan.looks if look > complete]
    return Findings(
        study=study.name,
        question=study.plan.question,
        plan_hash=study.hash,
        primary=study.plan.primary,
        baseline=study.baseline,
        findings=(),
        open=(study.baseline, *still) if still else (),
        next_look=ahead[0] if still else None,
        notes=tuple(f"{name}: {len(runs)} runs" for name, runs in found.items()),
    )


def quick(monkeypatch: pytest.MonkeyPatch | None = None) -> None:
    """Let REPRO stand in for DVC, in the workers alone; without ``monkeypatch``, for the rest of the process."""
    start, _, _ = worker.DVC.partition("from dvc.cli")
    (monkeypatch.setattr if monkeypatch else setattr)(worker, "DVC", start + REPRO)


def install(monkeypatch: pytest.MonkeyPatch | None = None) -> None:
    """Judge as above; without ``monkeypatch``, for the rest of the process."""
    (monkeypatch.setattr if monkeypatch else setattr)(verdict, "judge", judge)
