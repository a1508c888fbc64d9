"""A study's rows, metrics/studies/NAME/rows.jsonl, with the values that its arms are tuned to.

A row counts if it is named after a run of the plan, was made under this plan, and its params are those that the plan
asks for.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from ddpm.arms import revision
from ddpm.arms.question import Question
from ddpm.arms.run import Run
from ddpm.base.errors import UserError
from ddpm.params import file
from ddpm.referee import metrics, pairing
from ddpm.runs import rows
from ddpm.runs.record import Record
from ddpm.runs.rows import Rows
from ddpm.study import loading
from ddpm.study.plan import Study
from ddpm.verdicts import tuning
from ddpm.verdicts.arms import Arm


@dataclass(kw_only=True)
class Ledger(Question):
    """The rows of a study. study: with the values chosen of the arms that are done with tuning. tried: what the runs
    for tuning say."""

    study: Study
    tried: tuple[tuning.Tried, ...] = ()

    def update(self) -> None:
        """Read the rows, and choose the values of the arms that are done with tuning. Raises UserError if runs for
        tuning were not scored alike."""
        self.rows.reread()
        planned, places = {self.row_name(run.name) for run in self.study.lines()}, self.rows.places
        others = {name: f"{places[name]}: {name} is not an experiment of {self.source}: remove it" for name in places}
        reasons = (self.rows.refused | others).items()
        self.records, self.refused = {}, {name: reason for name, reason in reasons if name not in planned}
        self.take(self.study.experiments(kind="tuning"))
        self._settle()
        self.planned = self.study.lines()
        self.take(run for run in self.study.experiments() if not self.study.is_open(run))

    def _settle(self) -> None:
        """Choose the values of the arms that are done with tuning."""
        study, tune = self.study, self.study.plan.tune
        if tune is None:
            return
        if scored := [run for run in self.records.values() if not run.diverged]:
            pairing.check_fingerprints(scored, ["sample"])  # each seed draws images of its own
        scores, runs, primary = {}, self.by_arm(study.experiments(kind="tuning")), study.plan.primary
        for arm, grid in study.grid.items():
            of_arm = [runs.get((arm, place), {}).values() for place in range(len(grid))]
            if all(len(of_point) == tune.seeds for of_point in of_arm):
                scores[arm] = np.array([[run.scores.get(primary, math.nan) for run in row] for row in of_arm])
        alpha = 1 - study.compare.confidence
        self.tried = tuning.tries(tune.grid, scores, metrics.direction(primary), alpha, len(study.grid))
        chosen = {row.arm: row.values for row in self.tried if row.chosen}
        recipes = ((arm, recipe) for arm in chosen for recipe in study.grid[arm])
        self.study = replace(study, chosen={arm: recipe for arm, recipe in recipes if recipe.values == chosen[arm]})

    def check_plan(self) -> None:
        """Raises UserError if there are rows, and none of them counts."""
        if self.refused and not self.records:
            raise UserError(f"{self.source}: none of its rows counts: {next(iter(self.refused.values()))}")

    def check_study(self) -> None:
        """Raises UserError unless the study may run: as ``check_plan`` and ``check_ready`` do; and, before there is a
        row, unless images can be scored."""
        self.check_plan()
        params = [] if self.study.plan.base else [str(file.PATH)]
        self.check_ready(params, "code" in self.study.plan.may_differ)
        if not self.records:
            self.check_images()

    def check_images(self) -> None:
        """Raises UserError unless the images of each arm are there, and its metrics can judge them."""
        for arm, recipe in () if self.study.of_program else self.study.arms.items():
            primary = "primary", self.study.plan.primary
            loading.check_scores(recipe, [primary], f"{self.source}: arms.{arm}", look=True)

    def by_arm(self, planned: Iterable[Run]) -> dict[tuple[str, int | None], dict[int, Record]]:
        """The records by arm and place in the grid, then by seed."""
        runs: dict[tuple[str, int | None], dict[int, Record]] = {}
        for run in planned:
            if run.name in self.records:
                runs.setdefault((run.arm, run.place), {})[run.seed] = self.records[run.name]
        return runs

    def arms(self) -> tuple[Arm, ...]:
        """The finished runs for the verdict, the baseline's first."""
        runs = self.by_arm(self.study.experiments())
        recipes = self.study.arms | self.study.chosen
        return tuple(
            Arm(arm, {**({} if recipes[arm].program else keys), **recipes[arm].values}, runs.get((arm, None), {}))
            for arm, keys in self.study.plan.arms.items()
        )


def open_ledger(study: Study, commit: str | None = None) -> Ledger:
    """The ledger of a study with the rows that are there. commit: a name of it, by default the one that is checked out.
    Raises UserError as ``Ledger.update`` does."""
    ledger = Ledger(
        name=study.name,
        rows=Rows(study.results / rows.NAME),
        source=study.path,
        primary=study.plan.primary,
        maker=study.maker(revision.find(commit) if commit else revision.head()),
        plan=study.hash,
        study=study,
    )
    ledger.update()
    return ledger
