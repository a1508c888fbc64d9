"""A study's results: the record of each finished experiment, a row in metrics/studies/NAME/rows.jsonl.

A row counts if it is named after an experiment of the plan, was made under this plan, and its params are those that the
plan asks for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from ddpm.base.errors import UserError, blame
from ddpm.base.files import md5
from ddpm.params import file
from ddpm.referee import metrics, pairing
from ddpm.runs import rows
from ddpm.runs.record import Record
from ddpm.runs.rows import Rows
from ddpm.study import loading, revision
from ddpm.study.experiments import Experiments
from ddpm.study.plan import Experiment, Study
from ddpm.tools import clone
from ddpm.verdicts import tuning
from ddpm.verdicts.arms import Arm


class Ledger:
    """The records of a study. study: with the values chosen of the arms that are done with tuning. records: by
    experiment. refused: why rows are left out, by experiment. tried: what the runs for tuning say. experiments: where
    the records are, and the commit whose code runs.
    """

    def __init__(self, study: Study, experiments: Experiments):
        """A ledger without records: ``open_ledger`` reads them."""
        self.study, self.experiments = study, experiments
        self.records: dict[str, Record] = {}
        self.refused: dict[str, str] = {}
        self.tried: tuple[tuning.Tried, ...] = ()

    def update(self) -> None:
        """Read the rows, and choose the values of the arms that are done with tuning. Raises UserError if runs for
        tuning were not scored alike."""
        self.records, self.refused, self.tried = {}, {}, ()
        rows = self.experiments.rows
        rows.update()
        planned = {self.experiments.row_name(experiment.name) for experiment in self.study.lines()}
        self.refused |= {name: reason for name, reason in rows.refused.items() if name not in planned}
        for name, place in rows.places.items():
            if name not in planned:
                self.refused[name] = f"{place}: {name} is not an experiment of {self.study.path}: remove it"
        self._take(self.study.experiments(kind="tuning"))
        self._settle()
        self._take(run for run in self.study.experiments() if not self.study.is_open(run))

    def _take(self, experiments: Iterable[Experiment]) -> None:
        """Take the records of these experiments, or why they do not count."""
        for experiment in experiments:
            try:
                if run := self.experiments.find(experiment):
                    self.records[experiment.name] = run
            except UserError as error:
                self.refused[experiment.name] = str(error)

    def _settle(self) -> None:
        """Choose the values of the arms that are done with tuning."""
        study, tune = self.study, self.study.plan.tune
        if tune is None:
            return
        if scored := [run for run in self.records.values() if not run.diverged]:
            pairing.check_fingerprints(scored, ["sample"])  # each seed draws images of its own
        scores, runs, primary = {}, self.runs(study.experiments(kind="tuning")), study.plan.primary
        for arm, grid in study.grid.items():
            of_arm = [runs.get((arm, place), {}).values() for place in range(len(grid))]
            if all(len(of_point) == tune.seeds for of_point in of_arm):
                scores[arm] = np.array([[run.scores.get(primary, math.nan) for run in row] for row in of_arm])
        alpha = 1 - study.config.compare.confidence
        self.tried = tuning.tries(tune.grid, scores, metrics.direction(primary), alpha, len(study.grid))
        chosen = {row.arm: row.values for row in self.tried if row.chosen}
        recipes = ((arm, recipe) for arm in chosen for recipe in study.grid[arm])
        self.study = replace(study, chosen={arm: recipe for arm, recipe in recipes if recipe.values == chosen[arm]})

    def check_plan(self) -> None:
        """Raises UserError if there are results, and none of them counts."""
        if self.refused and not self.records:
            raise UserError(f"{self.study.path}: none of its results counts: {next(iter(self.refused.values()))}")

    def check_ready(self) -> None:
        """Raises UserError unless the study may run: by a plan and with code that are committed, programs' files that
        are those of the plan, and the code that made its first results, unless the plan lets it differ; and, before
        there is a result, with images that can be scored."""
        self.check_plan()
        params = [] if self.study.plan.base else [str(file.PATH)]
        code = (*revision.CODE, *self.experiments.files) if self.experiments.commit == revision.head() else ()
        revision.check_committed([str(self.study.path), *params, *code])
        for path in self.experiments.files:
            if not (other := self.experiments.code / path).exists() or md5(other) != md5(Path(path)):
                commit = self.experiments.commit[:10]
                raise UserError(
                    f"{path}: not what it is in commit {commit}, which would run, but part of the plan: "
                    f"`git checkout {commit} {path}`, or name a --commit that has this one"
                )
        if "code" not in self.study.plan.may_differ:
            for experiment in self._first():
                self.experiments.refuse_other_code(experiment, self.records[experiment.name])
        if not self.records:
            self.check_images()

    def check_images(self) -> None:
        """Raises UserError unless the images of each arm are there, and its metrics can judge them."""
        for arm, recipe in self.study.arms.items():
            with blame(f"{self.study.path}: arms.{arm}"):
                found = clone.look(recipe.config.data)
            loading.check_scores(self.study, arm, found)

    def _first(self) -> Iterable[Experiment]:
        """The experiments with the first result of this trainer, and of a program, whose record has its own files
        alone."""
        done = [one for one in self.study.lines() if one.name in self.records and not self.records[one.name].diverged]
        by_time = sorted(done, key=lambda one: self.records[one.name].finished)
        return {one.recipe.program is None: one for one in by_time[::-1]}.values()

    def runs(self, planned: Iterable[Experiment]) -> dict[tuple[str, int | None], dict[int, Record]]:
        """Those that are done, by arm and place in the grid, then by seed."""
        runs: dict[tuple[str, int | None], dict[int, Record]] = {}
        for experiment in planned:
            if experiment.name in self.records:
                of_point = runs.setdefault((experiment.arm, experiment.place), {})
                of_point[experiment.seed] = self.records[experiment.name]
        return runs

    def arms(self) -> tuple[Arm, ...]:
        """The finished runs for the verdict, the baseline's first."""
        study, arms = self.study, []
        runs = self.runs(study.experiments())
        for arm, keys in study.plan.arms.items():
            recipe = study.chosen.get(arm, study.arms[arm])
            values = {**({} if recipe.program else keys), **recipe.values}
            arms.append(Arm(arm, values, runs.get((arm, None), {})))
        return tuple(arms)

    def missing(self, planned: Iterable[Experiment]) -> list[Experiment]:
        """Those that are not done."""
        return [experiment for experiment in planned if experiment.name not in self.records]


def open_ledger(study: Study, commit: str | None = None) -> Ledger:
    """The ledger of a study with the records that are there. commit: the one that is checked out unless named. Raises
    UserError as ``Ledger.update`` does."""
    revision.check_index()
    experiments = Experiments(
        name=study.name,
        rows=Rows(study.results / rows.NAME),
        source=study.path,
        primary=study.plan.primary,
        commit=commit or revision.head(),
        files=tuple(path for recipe in study.arms.values() if recipe.program for path in recipe.program.files),
        plan=study.hash,
    )
    ledger = Ledger(study, experiments)
    ledger.update()
    return ledger
