"""A question: the runs that it asks for, their rows, and what is missing.

What is missing in the file of rows is the queue. Machines that share its folder share the work; others add, commit and
pull it like any other file.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from statistics import fmean

from ddpm.arms.maker import Maker
from ddpm.arms.pool import Task
from ddpm.arms.run import Run
from ddpm.base.errors import UserError
from ddpm.base.files import read_json, write_json
from ddpm.base.locks import is_locked
from ddpm.base.progress import duration
from ddpm.runs import rows
from ddpm.runs.record import Record
from ddpm.runs.rows import Rows

LOGS = Path(".ddpm/studies")  # what runs print on this machine


def strip(folder: Path, arm: str) -> Path:
    """Some of what the first run of an arm drew. No arm has a name with a dot, so that it is no other picture's."""
    return folder / f"strip.{arm}.png"


@dataclass
class Question:
    """What asks for rows: a study, or an attempt on a ladder.

    name: begins the names of its rows. source: the file that asks. primary: the metric that each row must have.
    planned: all runs that it may ask for, in their order. plan: a digest that each row must have. records: those of the
    rows that count, by run. refused: why others do not, by run or, if they are of none, by row.
    """

    name: str
    rows: Rows
    source: Path
    primary: str
    maker: Maker
    planned: Sequence[Run] = ()
    plan: str | None = None
    records: dict[str, Record] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    _checked: dict[tuple[int, int], Record] = field(default_factory=dict)

    def row_name(self, name: str) -> str:
        """The name of a run's row."""
        return f"{self.name}-{name}"

    def log(self, name: str) -> Path:
        """What a run prints on this machine."""
        return LOGS / self.name / f"{name}.log"

    def grids(self, arm: str) -> Path:
        """The folder of what the first run of an arm drew on this machine."""
        return LOGS / self.name / arm

    def failure(self, name: str) -> str | None:
        """Why a run failed here, if it has not succeeded since."""
        path = self.log(name).with_suffix(".json")
        return read_json(path, dict[str, str], "remove it")["reason"] if path.exists() else None

    def is_running(self, name: str) -> bool:
        """Whether a process makes the row, here or on a machine that shares the folder."""
        return is_locked(rows.lock_path(self.rows.path, self.row_name(name)))

    def task(self, run: Run) -> Task:
        """What makes the run's row."""
        about = {"name": self.row_name(run.name), "plan": self.plan, "revision": self.maker.commit}
        about |= {"curve": None} if run.kind == "tuning" else {}  # nobody reads it
        program = None
        if trainer := run.recipe.program:
            program = trainer.model_dump(mode="json", exclude_none=True) | {"arm": run.arm}
        picture = strip(self.rows.path.parent, run.arm) if run.pictured and self.plan else None
        return Task(
            run.name,
            run.params,
            self.log(run.name),
            self.rows.path,
            about,
            picture,
            program,
            run.may_diverge,
            keep=run.model or (self.grids(run.arm) if run.pictured else None),
            keep_model=bool(run.model),
        )

    def take(self, planned: Iterable[Run]) -> None:
        """Add the records of these runs to ``records``, or why their rows do not count to ``refused``."""
        for run in planned:
            try:
                if record := self._find(run):
                    self.records[run.name] = record
            except UserError as error:
                self.refused[run.name] = str(error)

    def take_all(self) -> None:
        """Read the rows. Raises UserError if one of a planned run does not count."""
        self.rows.reread()
        self.take(self.planned)
        for reason in self.refused.values():
            raise UserError(reason)

    def _find(self, run: Run) -> Record | None:
        """The run's record, if it has a row. Raises UserError, which begins with the row's place, if that does not
        count."""
        name = self.row_name(run.name)
        if name in self.rows.refused:
            raise UserError(self.rows.refused[name])
        if (record := self.rows.records.get(name)) is None or (id(record), id(run.recipe)) in self._checked:
            return record  # each row is checked once
        place = self.rows.places[name]
        if self.plan and record.plan != self.plan:
            raise UserError(
                f"{place}: made under another plan than {self.source} is now (`git log -p` shows what changed): "
                "undo the change, give the study another name, or remove the row"
            )
        if record.diverged and not run.may_diverge:
            raise UserError(f"{place}: its training diverged: remove the row, and look at the params")
        if not record.diverged and self.primary not in record.scores:
            raise UserError(f"{place}: it has no {self.primary}, which {self.source} is about: remove it")
        if other := self.maker.differences(run, record):
            raise UserError(f"{place}: it ran with another {other[0]} than the plan says: remove the row")
        self._checked[id(record), id(run.recipe)] = record
        return record

    def missing(self, planned: Iterable[Run]) -> list[Run]:
        """Those that are not done."""
        return [run for run in planned if run.name not in self.records]

    def leading_records(self, arm: str) -> Sequence[Record]:
        """The records of an arm up to the first seed that is missing."""
        records = (self.records.get(run.name) for run in self.planned if run.arm == arm)
        return [record for record in takewhile(bool, records) if record]

    def check_ready(self, more: Collection[str] = (), code_may_differ: bool = False) -> None:
        """Raises UserError unless the source, ``more`` files and what runs are committed, and what runs made the first
        rows, of this trainer and of a program, which has its own files alone: a row from elsewhere never chooses which
        code runs."""
        self.maker.check_committed([str(self.source), *more])
        done = [run for run in self.planned if run.name in self.records and not self.records[run.name].diverged]
        by_time = sorted(done, key=lambda run: self.records[run.name].finished)
        first = {run.recipe.program is None: run for run in by_time[::-1]}
        for run in () if code_may_differ else first.values():
            record = self.records[run.name]
            if other := self.maker.other_code(run, record):
                commit = record.revision and record.revision[:10]
                made_by = f"`--commit {commit}` runs the code that made it, if you trust that, or " if commit else ""
                raise UserError(
                    f"{self.rows.places[self.row_name(run.name)]}: was made by other code: {other[0]} differs from "
                    f"commit {self.maker.commit[:10]}: {made_by}remove the rows"
                )

    def make(
        self, left: Sequence[Run], slots: int | None, failed: dict[str, str], keep_models: bool = False
    ) -> Iterator[tuple[str, str]]:
        """Make the rows of these runs. Yields a line when one has ended, and what is left; whoever stops reading stops
        what runs. slots: how many run at a time, by default one per GPU or core. failed: gets name -> reason of those
        that fail."""
        slots = self.maker.count_slots(left, slots)
        with self.maker.pool(left, slots, keep_models) as pool:
            for done in pool.run(map(self.task, left)):
                name, mark = done.task.name, self.log(done.task.name).with_suffix(".json")
                self.rows.reread()
                self.take(left)  # other machines may have made some of them
                if (record := self.records.get(name)) is None:
                    failed[name] = f"{name}: {done.reason or self.refused.get(name, 'its row has gone')}"
                    write_json(mark, {"reason": failed[name]})
                    yield f"failed: {failed[name]}", ""
                    continue
                mark.unlink(missing_ok=True)
                score = f"no score: {record.diverged}"
                if not record.diverged:
                    score = f"{self.primary} {record.scores[self.primary]:.4g}"
                each = fmean(one.seconds for one in self.records.values())
                rest = duration(each * len(pool.tasks) / slots)
                yield f"{name}: {score}", f"; {len(pool.tasks)} left, about {rest}" if pool.tasks else ""
