"""``dvc repro`` and its kin in a small project, killed at random moments in every stage, and run again until they
finish; and what must be intact then."""

from __future__ import annotations

import csv
import math
import os
import random
import re
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import chdir, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from ddpm.base.errors import UserError
from ddpm.base.files import flatten, read_json, sha256
from ddpm.tools.clone import check_dvc
from tests.clone import ROOT, Clone
from tests.small_project import QUICK, merged

STAGES = ("download", "preprocess", "reference", "train", "sample", "evaluate")
STEPS, GRIDS = 60, 30
PARAMS = merged(QUICK, {
    "device": "cpu",
    "train": {"steps": STEPS, "checkpoint_every": 5, "grid_every": GRIDS},
    "sample": {"seeds": [0, 1], "steps": 10},
    "evaluate": {"extractors": ["auto"], "metrics": ["fid", "isc", "kid", "prc"]},
})  # fmt: skip
OUTS = ("raw", "processed", "reference", "model", "samples", "evaluation")
SCORES = ("evaluate.json", "scores.csv", "curve.csv", "fd_n.csv", "likelihood.csv")
MARK = "DDPM_FAULTS_MARK"
LIMIT = 600.0  # seconds that a whole pipeline may take
ORPHANS = 60.0  # seconds within which the leftovers of a killed run must end by themselves


class Victim(Clone):
    """The project with tiny params, committed. Its processes carry a mark, so that none is overlooked."""

    def __init__(self, folder: Path, changes: Mapping[str, Any]):
        super().__init__(folder, changes=merged(PARAMS, dict(changes)))
        self._adopt(folder)

    def copy(self, folder: Path) -> Victim:
        """A copy in ``folder`` with a suffix, because an MLflow client would mistake a later database at a path for the
        one it knows. The project's own MLflow store stays behind: it holds absolute paths."""
        folder = folder.with_name(f"{folder.name}-{uuid.uuid4().hex[:8]}")
        shutil.copytree(self.folder, folder, symlinks=True, ignore=shutil.ignore_patterns("mlflow.db", "mlartifacts"))
        made = object.__new__(Victim)
        made.environment = dict(self.environment)
        made._adopt(folder)
        return made

    def _adopt(self, folder: Path) -> None:
        self.folder = folder
        self.mark = uuid.uuid4().hex
        self.log = folder.parent / f"{folder.name}.log"
        self.environment |= {
            "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1",
            "DVC_SITE_CACHE_DIR": str(folder / ".dvc/site"), "OMP_NUM_THREADS": "1", MARK: self.mark,
        }  # fmt: skip

    def begin(self, *command: str) -> subprocess.Popen[bytes]:
        """Start it in a session of its own; its output becomes the new content of ``log``."""
        with self.log.open("wb") as out:
            output = {"stdout": out, "stderr": subprocess.STDOUT}
            return subprocess.Popen(command, cwd=self.folder, env=self.environment, start_new_session=True, **output)

    def wait(self, process: subprocess.Popen[bytes]) -> int:
        """The exit code; a process that takes too long is killed."""
        try:
            return process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self.end_all()
            return process.wait()

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def alive(self) -> list[psutil.Process]:
        """The marked processes."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                if process.environ().get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def stages(self) -> dict[str, list[psutil.Process]]:
        """The marked processes of each stage that is running, the one that DVC started first."""
        found: dict[str, list[psutil.Process]] = {}
        for process in self.alive():
            with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                arguments = process.cmdline()
                for stage in STAGES:
                    if ["-m", "stages", stage] in (arguments[1:4], arguments[2:5]):
                        found.setdefault(stage, []).append(process)
        return {name: sorted(processes, key=_depth) for name, processes in found.items()}

    def orphans(self) -> list[str]:
        """The marked processes that do not end by themselves; they are killed."""
        deadline = time.monotonic() + ORPHANS
        while left := self.alive():
            if time.monotonic() > deadline:
                self.end_all()
                return [f"left at work: {process}" for process in left]
            time.sleep(0.1)
        return []

    def end_all(self) -> None:
        for process in self.alive():
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def fix(self) -> None:
        """Do what `ddpm check` tells a person to do if a kill left half of a DVC file, which DVC writes in place."""
        with chdir(self.folder):
            try:
                check_dvc()
            except UserError as error:
                Path(re.search("`rm (.*?)`", str(error))[1]).unlink()

    def contents(self) -> dict[str, Any]:
        """What must be the same after any fault: digests of outs and scores, and the curve without its times."""
        folder = self.folder
        found: dict[str, Any] = {f"data/{out}": sha256(folder / "data" / out) for out in OUTS}
        found |= {f"metrics/{name}": sha256(folder / "metrics" / name) for name in SCORES}
        return found | {"metrics/loss.csv": [(row["step"], row["loss"], row["gradient_norm"]) for row in self.curve()]}

    def curve(self) -> list[dict[str, str]]:
        with (self.folder / "metrics/loss.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    def lost(self, reference: Mapping[str, Any]) -> list[str]:
        """Whatever differs from the reference, or was left behind."""
        try:
            found = self.contents()
        except OSError as error:
            return [f"missing: {error}"]
        changed = [f"changed: {name}" for name, value in reference.items() if found[name] != value]
        places = [self.folder / name for name in ("data", "metrics", ".ddpm") if (self.folder / name).exists()]
        litter = [path for place in places for path in place.rglob(".*.part")]
        left = [f"left behind: {path.relative_to(self.folder)}" for path in litter]
        return changed + left

    def unfinished(self) -> list[str]:
        """Resume states; a finished run leaves none."""
        return [f"left behind: {state.name}" for state in (self.folder / ".ddpm/checkpoints").glob("*")]

    def run_problems(self) -> list[str]:
        """What the project's MLflow store lacks, or has twice, of the run of these files."""
        from mlflow import MlflowClient

        client = MlflowClient(f"sqlite:///{self.folder / 'mlflow.db'}")
        if (store := client.get_experiment_by_name("ddpm")) is None:
            return ["MLflow: no experiment"]
        found = client.search_runs([store.experiment_id])
        scores = flatten(read_json(self.folder / "metrics/evaluate.json"))
        if [scores.items() <= run.data.metrics.items() for run in found] != [True]:
            return [f"MLflow: {len(found)} runs, or not these scores"]
        (run,) = found
        problems = [] if run.info.status == "FINISHED" else [f"MLflow: status {run.info.status}"]
        sent = [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, "loss")]
        if sorted(sent) != [(int(row["step"]), float(row["loss"])) for row in self.curve()]:
            problems.append(f"MLflow: {len(sent)} rows of the curve, of which {len(set(sent))} differ")
        return problems


def _depth(process: psutil.Process) -> int:
    """The launcher comes before its ranks."""
    try:
        return int("RANK" in process.environ())
    except psutil.NoSuchProcess:
        return 0


def wait_for(condition: Callable[[], Any], process: subprocess.Popen[bytes]) -> Any:
    """The value of ``condition`` once it is true; None if the process ends first."""
    while not (found := condition()):
        if process.poll() is not None:
            return None
        time.sleep(0.05)
    return found


class Trial(NamedTuple):
    """One kill. lost: what was lost, changed or left behind, in words."""

    fault: str
    where: str
    lost: tuple[str, ...] = ()


LATE = ("train", "sample", "evaluate")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True)
class Way:
    """A way to run the pipeline. targets: what may be killed: the ``child`` that DVC started, one ``rank`` of it,
    ``dvc`` itself, or the process ``group``, as Ctrl-C and a closed terminal do. changes: to the victim's params."""

    targets: tuple[str, ...]
    stages: tuple[str, ...] = STAGES
    changes: Mapping[str, Any] = field(default_factory=dict)

    def choose(
        self, process: subprocess.Popen[bytes], running: list[psutil.Process], target: str
    ) -> tuple[str, int] | None:
        """The target and its process id, among a stage's ``running`` processes; DVC if there is none of that kind."""
        if process.poll() is not None:
            return None
        child, ranks = running[:1], running[1:]
        if target == "rank" and ranks:
            return target, ranks[-1].pid
        if target in {"rank", "child"} and child:
            return "child", child[0].pid
        return ("group" if target == "group" else "dvc"), process.pid


WAYS = {
    "repro": Way(("child", "dvc", "group")),
    "late": Way(("child", "dvc", "group"), LATE),  # DVC ignores SIGINT: few lives get so far
    "ranks": Way(("rank", "rank", "child", "dvc", "group"), LATE, {"launch": {"processes": 2}}),
}


@dataclass(frozen=True)
class Reference:
    """An uninterrupted run: its results, and the CPU seconds of each stage, whatever else was running."""

    contents: dict[str, Any]
    seconds: dict[str, float]


def uninterrupted(victim: Victim) -> Reference:
    """The reference. Raises RuntimeError if not even this run succeeds."""
    process = victim.begin("dvc", "repro")
    seconds = {}
    for name in STAGES:
        if running := wait_for(lambda name=name: victim.stages().get(name), process):
            seconds[name] = wait_for_cpu(running[0], math.inf)
    if victim.wait(process):
        raise RuntimeError(victim.said()[-2000:])
    if problems := victim.run_problems():
        raise RuntimeError(str(problems))
    return Reference(victim.contents(), seconds)


def wait_for_cpu(process: psutil.Process, seconds: float) -> float:
    """Wait until a process and its children have used that many CPU seconds, or it has ended; return what it used."""
    used = 0.0
    try:
        while used < seconds and process.status() != psutil.STATUS_ZOMBIE:
            family = [process, *process.children(recursive=True)]
            used = max(used, sum(sum(member.cpu_times()[:2]) for member in family))
            time.sleep(0.02)
    except psutil.NoSuchProcess:
        return used
    return used


def life(blank: Victim, folder: Path, way: Way, reference: Reference, generator: random.Random) -> list[Trial]:
    """The trials of one life: a copy of ``blank`` is killed once in each stage, and then allowed to finish.

    What is lost at the end is charged to every kill.
    """
    victim = blank.copy(folder)
    kills: list[Trial] = []
    for stage in way.stages:
        process = victim.begin("dvc", "repro")
        running = wait_for(lambda stage=stage: victim.stages().get(stage), process)
        if not running:
            continue  # it finished or failed: the last attempt shows which
        moment = generator.uniform(0, 1.2) * reference.seconds.get(stage, 0.0)
        if wait_for_cpu(running[0], moment) < moment:
            time.sleep(generator.uniform(0, 0.5))  # DVC is busy with the stage's outs
        if hit := strike(victim, process, way, generator.choice(way.targets), generator.choice(SIGNALS)):
            kills.append(hit)
    code = victim.wait(victim.begin("dvc", "repro"))
    lost = [] if code == 0 else [f"run again: exit code {code}: {victim.said()[-400:]!r}"]
    lost += victim.orphans()
    if not lost:
        lost = victim.lost(reference.contents) + victim.run_problems() + victim.unfinished()
    shutil.rmtree(victim.folder, ignore_errors=True)
    return [hit._replace(lost=(*hit.lost, *lost)) for hit in kills]


def strike(
    victim: Victim, process: subprocess.Popen[bytes], way: Way, target: str, number: signal.Signals
) -> Trial | None:
    """The kill, and what went wrong at once; None: there was nothing to kill."""
    where, processes = next(iter(victim.stages().items()), ("between stages", []))
    struck = way.choose(process, processes, target)
    if struck is None:
        return None
    target, pid = struck
    started = time.monotonic()
    try:
        (os.killpg if target == "group" else os.kill)(pid, number)
    except ProcessLookupError:
        return None
    victim.wait(process)
    seconds = time.monotonic() - started
    problems = victim.orphans()
    if target == "rank" and seconds > ORPHANS:
        problems.append(f"the others ended {seconds:.0f} s after it")
    victim.fix()
    return Trial(f"{number.name} to {target}", where, tuple(problems))
