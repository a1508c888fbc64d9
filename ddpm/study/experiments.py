"""The experiments of a study, or of an attempt on a ladder: their rows, and runs of those without one.

What is missing in the file of rows is the queue. Machines that share its folder share the work; others add, commit and
pull it like any other file.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ddpm.base.errors import UserError
from ddpm.base.files import read_json, write_json
from ddpm.base.locks import is_locked
from ddpm.base.progress import duration
from ddpm.base.sections import Affects
from ddpm.params import inputs
from ddpm.params.config import keys_affecting
from ddpm.runs import alike, library, rows
from ddpm.runs.record import Record
from ddpm.runs.rows import Rows
from ddpm.study import revision
from ddpm.study.plan import Experiment
from ddpm.study.pool import Pool, Task

LOGS = Path(".ddpm/studies")  # what experiments print on this machine


@dataclass(frozen=True)
class Experiments:
    """name: begins those of the rows. source: the file that asks for them. primary: the metric that each must have.
    commit: whose code runs, with these ``files``. plan: the digest in each row."""

    name: str
    rows: Rows
    source: Path
    primary: str
    commit: str
    files: tuple[str, ...] = ()
    plan: str | None = None

    @cached_property
    def code(self) -> Path:
        """The folder with the code that runs."""
        return revision.export(self.commit, self.files)

    def row_name(self, name: str) -> str:
        """Of an experiment's row."""
        return f"{self.name}-{name}"

    def place(self, name: str) -> str:
        """File and line of an experiment's row."""
        return self.rows.places[self.row_name(name)]

    def log(self, name: str) -> Path:
        return LOGS / self.name / f"{name}.log"

    def grids(self, arm: str) -> Path:
        """The folder of what the first run of an arm drew on this machine."""
        return LOGS / self.name / arm

    def failure(self, name: str) -> str | None:
        """Why an experiment failed here, if it has not succeeded since."""
        path = self._failure(name)
        return read_json(path, dict[str, str], "remove it")["reason"] if path.exists() else None

    def _failure(self, name: str) -> Path:
        return self.log(name).with_suffix(".json")

    def is_running(self, name: str) -> bool:
        """Whether a process runs it, here or on a machine that shares the folder."""
        return is_locked(rows.lock_path(self.rows.path, self.row_name(name)))

    def task(self, experiment: Experiment) -> Task:
        name, program, picture = experiment.name, None, None
        if trainer := experiment.recipe.program:
            program = trainer.model_dump(mode="json", exclude_none=True) | {"arm": experiment.arm}
        about = {"name": self.row_name(name), "plan": self.plan, "revision": self.commit}
        if experiment.kind == "tuning":
            about["curve"] = None  # nobody reads it
        if experiment.pictured and self.plan:
            picture = self.rows.path.with_name(f"{experiment.arm}.png")
        return Task(
            name,
            experiment.params,
            self.log(name),
            self.rows.path,
            about,
            picture,
            program,
            experiment.may_diverge,
            keep=experiment.model or (self.grids(experiment.arm) if experiment.pictured else None),
            keep_model=bool(experiment.model),
        )

    def find(self, experiment: Experiment) -> Record | None:
        """The experiment's record, if it has a row. Raises UserError, which begins with the row's place, if that does
        not count."""
        name = self.row_name(experiment.name)
        if name in self.rows.refused:
            raise UserError(self.rows.refused[name])
        if (run := self.rows.records.get(name)) is None:
            return None
        path = self.rows.places[name]
        if self.plan and run.plan != self.plan:
            raise UserError(
                f"{path}: made under another plan than {self.source} is now (`git log -p` shows what changed): "
                "undo the change, give the study another name, or remove the row"
            )
        if run.diverged and not experiment.may_diverge:
            raise UserError(f"{path}: its training diverged: remove the row, and look at the params")
        if not run.diverged and self.primary not in run.scores:
            raise UserError(f"{path}: it has no {self.primary}, which {self.source} is about: remove it")
        planned, program = experiment.recipe.flat | dict(experiment.own), experiment.recipe.program
        if program:
            planned = keys_affecting(Affects.SCORED, planned)
        same = {"seed": run.seed == experiment.seed, "program": run.program == (program and program.program)}
        if other := [key for key in same if not same[key]] or alike.differences(run, planned):
            raise UserError(f"{path}: it ran with another {other[0]} than the plan says: remove the row")
        return run

    def other_code(self, experiment: Experiment, run: Record, code: Path) -> list[str]:
        """In what the code in a folder is not the code that made the record."""
        other = library.find_changes(run, code)
        if not experiment.recipe.program:
            listed = inputs.list_code(experiment.params, dvc_yaml=code / inputs.DVC_YAML)
            other += sorted({*listed} ^ run.code.keys())
        return other

    def refuse_other_code(self, experiment: Experiment, run: Record) -> None:
        """Raises UserError unless the code that runs made the record: one from elsewhere never chooses which code
        does."""
        if other := self.other_code(experiment, run, self.code):
            commit = run.revision and run.revision[:10]
            made_by = f"`--commit {commit}` runs the code that made it, if you trust that, or " if commit else ""
            raise UserError(
                f"{self.place(experiment.name)}: was made by other code: {other[0]} differs from commit "
                f"{self.commit[:10]}: {made_by}remove the rows"
            )

    def run(
        self, left: Sequence[Experiment], slots: int | None, failed: dict[str, str], keep_models: bool = False
    ) -> Iterator[tuple[str, str]]:
        """Run the experiments; try each failed one once more, after those that run by then. Yields a line when one has
        ended, and what is left; whoever stops reading stops what runs. slots: how many run at a time, by default one
        per GPU or core. failed: name -> reason, of those given up."""
        begin, count, by_name = time.monotonic(), 0, {experiment.name: experiment for experiment in left}
        with Pool(self.code, slots, {one.recipe.config.device for one in left}, keep_models) as running:
            for done in running.run(map(self.task, left), tries=2):
                name = done.task.name
                try:
                    if done.reason:
                        raise UserError(done.reason)
                    self.rows.update()
                    if (run := self.find(by_name[name])) is None:
                        raise UserError(f"{self.rows.path}: its row has gone: run it again")
                except UserError as error:
                    reason = f"{name}: {error}"
                    write_json(self._failure(name), {"reason": reason})
                    if not done.again:
                        failed[name] = reason
                    yield f"failed: {reason}; {'again later' if done.again else 'given up'}", ""
                else:
                    self._failure(name).unlink(missing_ok=True)
                    count += 1
                    score = "diverged" if run.diverged else f"{self.primary} {run.scores[self.primary]:.4g}"
                    rest = duration((time.monotonic() - begin) * len(running.tasks) / count)
                    yield f"{name}: {score}", f"; {len(running.tasks)} left, about {rest}" if running.tasks else ""
