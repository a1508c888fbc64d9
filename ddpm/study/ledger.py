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

from ddpm.base.errors import UserError
from ddpm.base.sections import Affects
from ddpm.params import file
from ddpm.params.config import keys_affecting
from ddpm.runs import alike, library, record
from ddpm.runs.record import Record
from ddpm.sources import fetch
from ddpm.study import slots
from ddpm.study.plan import Experiment, Study
from ddpm.verdicts import pairing, tuning
from ddpm.verdicts.pairing import Arm

DECISIVE = ("ddpm", "stages", "dvc.yaml", ".dvcignore")  # what a result depends on, with the plan
ERRORS = ("t", "steps", "log_snr", "error_test")  # what verdicts read by noise level; all would be half of a record


class Ledger:
    """The records of a study. study: with the values chosen of the arms that are done with tuning. records: by
    experiment. refused: why files are left out, by experiment. tried: what the runs for tuning say. first: the
    record that was finished first. head: the commit that is checked out. commit: whose code this machine runs: that of
    ``first`` if it is in the history of ``head`` and the plan does not let the code differ, otherwise ``head``.

    Raises UserError if runs for tuning were not scored alike.
    """

    def __init__(self, study: Study):
        self.study = study
        self.update()
        git = library.repository()
        self.head = str(git.revparse_single("HEAD").id)
        self.first = min(self.records.values(), key=lambda run: run.finished, default=None)
        revision = self.first and self.first.revision
        # a file from elsewhere must not choose which code runs: only what is part of the history that was checked out
        known = revision and revision in git and git.descendant_of(self.head, revision)
        same = "code" not in study.plan.may_differ
        self.commit = revision if revision and known and same else self.head

    def path(self, name: str) -> Path:
        """Of an experiment's record."""
        return self.study.results / "runs" / f"{name}.json"

    def lock(self, name: str) -> Path:
        """Of an experiment: the process that runs it holds this file's lock."""
        return self.path(name).with_suffix(".lock")

    def update(self) -> None:
        """Read the folder, and choose the values of the arms that are done with tuning. Raises UserError if runs for
        tuning were not scored alike."""
        self.records: dict[str, Record] = {}
        self.refused: dict[str, str] = {}
        files = {path.stem: path for path in sorted((self.study.results / "runs").glob("*.json"))}
        for name in files.keys() - {experiment.name for experiment in self.study.lines()}:
            self.refused[name] = f"{files[name]}: not an experiment of {self.study.path}: remove it"
        self._take(run for run in self.study.experiments(kind="tuning") if run.name in files)
        self._settle()
        self._take(run for run in self.study.lines() if run.name in files and run.kind != "tuning")

    def _take(self, experiments: Iterable[Experiment]) -> None:
        """Take the records of these experiments, or why they do not count."""
        for experiment in experiments:
            try:
                self.records[experiment.name] = self.read(experiment)
            except UserError as error:
                self.refused[experiment.name] = str(error)

    def _settle(self) -> None:
        """Choose the values of the arms that are done with tuning."""
        study, tune = self.study, self.study.plan.tune
        self.tried: tuple[tuning.Tried, ...] = ()
        if tune is None:
            return
        if scored := [run for run in self.records.values() if not run.diverged]:
            pairing.check_fingerprints(scored, ["sample"])  # each seed draws images of its own
        scores, runs, primary = {}, self.runs(study.experiments(kind="tuning")), study.plan.primary
        for arm, grid in study.points.items():
            of_arm = [runs.get((arm, place), {}).values() for place in range(len(grid))]
            if all(len(of_point) == tune.seeds for of_point in of_arm):
                scores[arm] = np.array([[run.scores.get(primary, math.nan) for run in row] for row in of_arm])
        alpha = 1 - study.config.compare.confidence
        self.tried = tuning.tries(tune.grid, scores, primary, alpha, len(study.points))
        chosen = {row.arm: row.values for row in self.tried if row.chosen}
        points = ((arm, point) for arm in chosen for point in study.points[arm])
        self.study = study.settled({arm: point for arm, point in points if point.values == chosen[arm]})

    def read(self, experiment: Experiment) -> Record:
        """The experiment's record. Raises UserError if it does not count."""
        path = self.path(experiment.name)
        run = record.read(path)
        if run.plan != self.study.hash:
            raise UserError(
                f"{path}: made under another plan than {self.study.path} is now (`git log -p` shows what changed): "
                "undo the change, give the study another name, or remove the file"
            )
        if not self.study.is_open(experiment):
            check(experiment, run, str(path), self.study.plan.primary)
        return run

    @property
    def seconds(self) -> float | None:
        """Mean duration of an experiment; None before the first."""
        return fmean(took) if (took := [run.seconds for run in self.records.values()]) else None

    def check_plan(self) -> None:
        """Raises UserError if there are results, and none of them counts."""
        if self.refused and not self.records:
            raise UserError(f"{self.study.path}: none of its results counts: {next(iter(self.refused.values()))}")

    def check_ready(self) -> None:
        """Raises UserError unless the study may run: with the code of its first result, or else with that of a commit
        which has everything that it depends on; and, before there is a result, with images that are there."""
        self.check_plan()
        if self.first and self.first.revision == self.commit:
            return
        check_committed(self.study)
        if self.first and "code" not in self.study.plan.may_differ and (other := library.changed(self.first)):
            raise UserError(
                f"{self.study.path}: its first result, {self.first.name}, was made by other code: {other[0]} "
                "differs from what is checked out: check out the code that made it, or remove the results"
            )
        for arm, config in self.study.configs.items() if not self.first else ():
            try:
                fetch.check(config.data.dataset, config.data.source)
            except UserError as error:
                raise UserError(f"{self.study.path}: {arm}: {error}") from error

    def runs(self, planned: Iterable[Experiment]) -> dict[tuple[str, int | None], dict[int, Record]]:
        """Those that are done, by arm and place in the grid, then by seed."""
        runs: dict[tuple[str, int | None], dict[int, Record]] = {}
        for experiment in planned:
            if experiment.name in self.records and not self.study.is_open(experiment):
                of_point = runs.setdefault((experiment.arm, experiment.place), {})
                of_point[experiment.seed] = self.records[experiment.name]
        return runs

    def arms(self) -> tuple[Arm, ...]:
        """The finished runs for the verdict, the baseline's first."""
        study, arms = self.study, []
        runs = self.runs(study.experiments())
        for arm, keys in study.plan.arms.items():
            point = study.chosen.get(arm)
            values = {**({} if arm in study.programs else keys), **(point.values if point else {})}
            arms.append(Arm(arm, values, runs.get((arm, None), {})))
        return tuple(arms)

    def missing(self, planned: Iterable[Experiment]) -> list[Experiment]:
        """Those that are not done."""
        return [experiment for experiment in planned if experiment.name not in self.records]

    def write(self, experiment: Experiment, run: Record) -> None:
        """Write the record of a finished experiment. Raises UserError if its params are not those of the plan."""
        path = self.path(experiment.name)
        # nobody reads the tables of a run for tuning; and a curve without snapshots is the scores again
        tables = experiment.kind != "tuning"
        run = run.model_copy(
            update={
                "name": f"{self.study.name}-{experiment.name}",
                "plan": self.study.hash,
                "revision": self.commit,
                "noise_levels": run.noise_levels.only(*ERRORS) if tables and run.noise_levels else None,
                "curve": run.curve if tables and len(run.learned) > 1 else None,
            }
        )
        check(experiment, run, str(path), self.study.plan.primary)
        path.parent.mkdir(parents=True, exist_ok=True)
        record.write(run, path)


def check(experiment: Experiment, run: Record, source: str, primary: str) -> None:
    """Raises UserError, which begins with ``source``, unless it is a record of that experiment."""
    if run.diverged and not experiment.may_diverge:
        raise UserError(f"{source}: its training diverged: remove the file, and look at the params")
    if not run.diverged and primary not in run.scores:
        raise UserError(f"{source}: it has no {primary}, which the study is about: remove it")
    planned = experiment.config.flat() | dict(experiment.changed)
    if experiment.program:
        planned = keys_affecting(Affects.SCORED, planned)
    program = experiment.program and experiment.program.program
    other = ["seed"] * (run.seed != experiment.seed) or ["program"] * (run.program != program)
    if other := other or alike.differences(run, planned):
        raise UserError(f"{source}: it ran with another {other[0]} than the plan says: remove the file")


def check_committed(study: Study) -> None:
    """Raises UserError unless the plan, the code and the params are in the last commit."""
    files = [path for program in study.programs.values() for path in program.files]
    params = [] if study.plan.base else [str(file.PATH)]
    if changes := slots.git("status", "--porcelain", "--", str(study.path), *DECISIVE, *params, *files):
        path = changes.splitlines()[0].split(maxsplit=1)[1]
        raise UserError(f"{path}: has uncommitted changes, and a study runs a commit: commit or discard them")
