"""A small project to harm, and what must be intact afterwards."""

from __future__ import annotations

import csv
import os
import re
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import chdir
from pathlib import Path
from typing import Any

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
            return subprocess.Popen(
                command, cwd=self.folder, env=self.environment, stdout=out, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip

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
            try:
                if process.environ().get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found

    def stages(self) -> dict[str, list[psutil.Process]]:
        """The marked processes of each stage that is running, the one that DVC started first."""
        found: dict[str, list[psutil.Process]] = {}
        for process in self.alive():
            try:
                arguments = process.cmdline()
            except (psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
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
            try:
                process.send_signal(signal.SIGKILL)
            except psutil.NoSuchProcess:
                continue

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
