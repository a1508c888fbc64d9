"""A study's results: the record of each finished experiment, a file in metrics/studies/NAME/runs.

What is missing there is the queue. Machines that share the folder share the study; others add, commit and pull the
files like any other. A file counts if it is named after an experiment of the plan, was made under this plan, and its
params are those that the plan asks for. One that other machines may be making is locked by a file next to it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from statistics import fmean

import numpy as np
import pygit2

from ddpm.base.errors import UserError
from ddpm.base.files import read_json, write_json
from ddpm.params import file
from ddpm.runs import alike, library, record
from ddpm.runs.record import Record
from ddpm.study import slots
from ddpm.study.experiments import SCORED_BY, Experiment, Study
from ddpm.verdicts import pairing, tuning
from ddpm.verdicts.pairing import Arm

DECISIVE = ("ddpm", "stages", "dvc.yaml", ".dvcignore")  # what a result depends on, with the plan
ERRORS = ("t", "steps", "log_snr", "error_test")  # what verdicts read by noise level; all would be half of a record
UNCHANGED = (pygit2.enums.FileStatus.CURRENT, pygit2.enums.FileStatus.IGNORED)  # since the last commit
FIRST = "a plan is fixed in git before its first seed"


class Ledger:
    """The records of a study. records: by experiment. refused: why files are left out, by experiment. commit: whose
    code this machine runs: the one that it began with, or HEAD. tried: what the runs for tuning say, as of ``settle``.
    refusal: why no result is of this plan, which raises UserError unless ``any_plan``; empty if one is."""

    def __init__(self, study: Study, any_plan: bool = False):
        self.study = study
        self.records: dict[str, Record] = {}
        self.refused: dict[str, str] = {}
        self.tried: tuple[tuning.Tried, ...] = ()
        self._read: dict[Path, tuple[int, Record]] = {}
        self._note = slots.state(study) / "study.json"
        self.update()
        head = str(library.repository().revparse_single("HEAD").id)
        self._begun = self._note.exists() and bool(self._files())
        self.commit = str(read_json(self._note)["commit"]) if self._begun else head
        self.moved = self.commit != head
        self.refusal = ""
        others = [path for path, (_, run) in self._read.items() if run.plan != study.hash]
        if others and len(others) == len(self._read):
            self.refusal = (
                f"{study.path}: the plan is not the one that {len(others)} results were made under, such as "
                f"{others[0]}: `git log -p {study.path}` shows what changed; undo it, or give the study another name"
            )
            if not any_plan:
                raise UserError(self.refusal)

    def path(self, name: str) -> Path:
        """Of an experiment's record."""
        return self.study.results / "runs" / f"{name}.json"

    def lock(self, name: str) -> Path:
        """Of an experiment: the process that runs it holds this file's lock."""
        return self.path(name).with_suffix(".lock")

    def _files(self) -> list[Path]:
        return sorted((self.study.results / "runs").glob("*.json"))

    def update(self) -> None:
        """Read what is new in the folder."""
        planned = {experiment.name: experiment for experiment in self.study.lines()}
        records, refused = {}, {}  # threads read those that are there
        for path in self._files():
            try:
                experiment = planned.get(path.stem)
                if experiment is None:
                    raise UserError(f"{path}: not an experiment of {self.study.path}: remove it")
                run = self._record(path)
                if run.plan != self.study.hash:
                    raise UserError(f"{path}: made under another plan than {self.study.path} is now: remove it")
                if not self.study.is_open(experiment):
                    check(experiment, run, str(path), self.study.plan.primary)
                records[path.stem] = run
            except UserError as error:
                refused[path.stem] = str(error)
        self.records, self.refused = records, refused

    def _record(self, path: Path) -> Record:
        changed = path.stat().st_mtime_ns
        if path not in self._read or self._read[path][0] != changed:
            self._read[path] = (changed, record.read(path))
        return self._read[path][1]

    @property
    def seconds(self) -> float | None:
        """Mean duration of an experiment; None before the first."""
        return fmean(took) if (took := [run.seconds for run in self.records.values()]) else None

    def fix(self) -> None:
        """Record which commit this machine runs. Raises UserError unless git has everything that it depends on."""
        if not self._begun:
            check_committed(self.study)
        write_json(self._note, {"commit": self.commit, "plan": self.study.hash})

    def settle(self) -> None:
        """Choose the values of the arms that are done with tuning. Raises UserError if runs for tuning were not scored
        alike."""
        study, runs = self.study, self.study.tuning()
        scored = [self.records[run.name] for run in runs if run.name in self.records]
        if scored := [run for run in scored if not run.diverged]:
            pairing.check_fingerprints(scored, ["sample"])  # each seed draws images of its own
        scores = {}
        for arm, points in study.points.items():
            names = [experiment.name for experiment in runs if experiment.arm == arm]
            if all(name in self.records for name in names):
                row = [self.records[name].scores.get(study.plan.primary, math.nan) for name in names]
                scores[arm] = np.array(row).reshape(-1, len(points)).T
        if study.plan.tune:
            alpha = 1 - study.config.compare.confidence
            self.tried = tuning.tries(study.plan.tune.grid, scores, study.plan.primary, alpha, len(study.points))
            settled = {row.arm: point for row in self.tried if row.chosen
                      for point in study.points[row.arm] if point.values == row.values}  # fmt: skip
            self.study = study.settled(settled)
            self.update()

    def arms(self) -> tuple[Arm, ...]:
        """The finished runs for the verdict, the baseline's first."""
        runs: dict[str, dict[int, Record]] = {arm: {} for arm in self.study.plan.arms}
        for experiment in self.study.experiments():
            if experiment.name in self.records and not self.study.is_open(experiment):
                runs[experiment.arm][experiment.seed] = self.records[experiment.name]
        values = {arm: {} if arm in self.study.programs else keys for arm, keys in self.study.plan.arms.items()}
        tuned = {arm: point.values for arm, point in self.study.chosen.items()}
        return tuple(Arm(arm, {**values[arm], **tuned.get(arm, {})}, runs[arm]) for arm in runs)

    def alternatives(self) -> dict[tuple[str, int | None], dict[int, Record]]:
        """The finished runs that only ``claim: best`` needs, by arm and place in the grid, then by seed."""
        runs: dict[tuple[str, int | None], dict[int, Record]] = {}
        for experiment in self.study.alternatives():
            if experiment.name in self.records:
                at = experiment.arm, experiment.alternative
                runs.setdefault(at, {})[experiment.seed] = self.records[experiment.name]
        return runs

    def missing(self, planned: Iterable[Experiment]) -> list[Experiment]:
        """Those that are not done."""
        return [experiment for experiment in planned if experiment.name not in self.records]

    def write(self, experiment: Experiment, run: Record) -> None:
        """Write the record of a finished experiment. Raises UserError if its params are not those of the plan."""
        path = self.path(experiment.name)
        run = run.model_copy(
            update={
                "name": f"{self.study.name}-{experiment.name}",
                "plan": self.study.hash,
                "revision": self.commit,
                "noise_levels": run.noise_levels and run.noise_levels.only(*ERRORS),
            }
        )
        check(experiment, run, str(path), self.study.plan.primary)
        path.parent.mkdir(parents=True, exist_ok=True)
        record.write(run, path)


def check(experiment: Experiment, run: Record, source: str, primary: str) -> None:
    """Raises UserError, which begins with ``source``, unless it is a record of that experiment."""
    if run.diverged and experiment.tried is None:
        raise UserError(f"{source}: its training diverged: remove the file, and look at the params")
    if not run.diverged and primary not in run.scores:
        raise UserError(f"{source}: it has no {primary}, which the study is about: remove it")
    planned = experiment.config.flat() | dict(experiment.changed)
    if experiment.program:
        planned = {key: value for key, value in planned.items() if alike.is_in(key, SCORED_BY)}
    program = experiment.program and experiment.program.program
    other = ["seed"] * (run.seed != experiment.seed) or ["program"] * (run.program != program)
    if other := other or alike.differences(run, planned):
        raise UserError(f"{source}: it ran with another {other[0]} than the plan says: remove the file")


def check_committed(study: Study) -> None:
    """Raises UserError unless the plan, the code and the params are in the last commit."""
    git = library.repository()
    try:
        plan = str(study.path.resolve().relative_to(Path(git.workdir).resolve()))
    except ValueError as error:
        raise UserError(f"{study.path}: not in this repository: {FIRST}") from error
    below = library.below(git)
    names = [plan, *([] if study.plan.base else [str(below / file.PATH)]), *(str(below / name) for name in DECISIVE)]
    names += [str(below / path) for program in study.programs.values() for path in program.files]
    if plan not in git.revparse_single("HEAD").peel(pygit2.Commit).tree:
        raise UserError(f"{study.path}: not committed: {FIRST}: `git add` it, and commit")
    for path, flags in git.status().items():
        if flags not in UNCHANGED and any(Path(path).is_relative_to(name) for name in names):
            raise UserError(
                f"{path}: has changes that are not committed: a study runs a commit: commit it, or undo them"
            )
