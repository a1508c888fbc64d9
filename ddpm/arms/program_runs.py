"""The maker whose rows are runs of a program, and what a study and a ladder need to know of it.

A program's row is a record like any other. Its params are the values and the commit, its one cost are the seconds.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

from ddpm.arms import revision
from ddpm.arms.pool import Done, Pool, Task
from ddpm.arms.run import Run
from ddpm.base import files
from ddpm.base.errors import UserError, plural
from ddpm.base.locks import lock
from ddpm.programs import worktree
from ddpm.programs.maker import Job, Maker, Row
from ddpm.programs.program import COMMIT, SEED, Program
from ddpm.runs import record, rows
from ddpm.runs.record import Costs, Fingerprint, Record
from ddpm.verdicts.arms import Arm
from ddpm.verdicts.table import Columns

OURS = ("ladders", "studies", "metrics")  # folders that say nothing about what a program does
SHARE = 0.013  # of the mean, by which a guard may get worse, unless the file has its margin
LOCK = worktree.FOLDER.with_suffix(".lock")  # of whoever adds a row
FEWEST = 3  # equal scores: two may be a coincidence of a coarse metric


class ProgramPool(Pool):
    """Runs tasks as runs of a program, on one slot unless more are asked for: one may need the whole machine."""

    def __init__(self, program: Program, slots: int | None):
        say = partial(print, file=sys.stderr, flush=True)  # stdout may be for programs
        self.program, self.maker = program, Maker(program, slots or 1, say)
        self.tasks = dict[str, Task]()

    def submit(self, task: Task, again: bool = False) -> None:
        values = {key: value for key, value in task.params.items() if key not in (COMMIT, SEED)}
        self.tasks[task.name] = task
        # what fails twice fails for all that wait
        self.maker.submit(Job(task.name, values, task.params[COMMIT], task.params[SEED], task.log), first=again)

    def results(self, until: float | None = None) -> Iterator[Done]:
        for row in self.maker.results(until):
            task = self.tasks.pop(row.job.name)
            if row.reason and not task.may_diverge:
                yield Done(task, reason=f"{row.reason}; {task.log} has the end of its output")
                continue
            run = to_record(self.program, row, task)
            if task.rows:
                values = run.model_dump(mode="json", exclude_defaults=True) | {"format": record.FORMAT}
                with lock(LOCK, math.inf):  # another process may have made it, too
                    if not rows.has(task.rows, run.name):
                        rows.append(task.rows, values)
            yield Done(task, run)

    def stop(self) -> None:
        self.maker.close()


def to_record(program: Program, row: Row, task: Task) -> Record:
    """The record of a run."""
    comparable = {"samples": 1, "run": program.run, "read": program.model_dump(mode="json")["read"]}
    values = {
        "name": task.name,
        "seed": row.job.seed,
        "program": _plain(program.run),
        "finished": record.now(),
        "params": task.params,
        "fingerprint": Fingerprint(hash=files.digest(comparable), comparable=comparable),
        "scores": dict(row.scores),
        "costs": Costs(seconds={"run": row.seconds}),
        "environment": {key: row.facts[key] for key in ("system", "python")},
        "diverged": _plain(row.reason),
    }
    return Record.model_validate(values | dict(task.about) | {"revision": task.params[COMMIT]})


def _plain(text: str) -> str:
    """Text as a record may have it."""
    return text.translate({ord("<"): "(", ord(">"): ")"})[: record.LONGEST]


@dataclass(frozen=True)
class ProgramMaker:
    """Makes rows by a program, each of the commit that its arm names."""

    program: Program
    commit: str = ""

    def pool(self, runs: Collection[Run], slots: int | None, keep_models: bool = False) -> ProgramPool:
        return ProgramPool(self.program, slots)

    def check_committed(self, paths: Collection[str]) -> None:
        revision.check_committed(paths)

    def differences(self, run: Run, record: Record) -> list[str]:
        planned = run.params
        return sorted(key for key in planned | record.params if planned.get(key) != record.params.get(key))

    def other_code(self, run: Run, record: Record) -> list[str]:
        return []  # the commit is one of its params

    def at(self, commit: str, folder: Path | None) -> Self:
        return self


def known(program: Program) -> Columns:
    """Facts about the metrics: the margin of a guard is a share of the mean unless the file has it."""
    return Columns(program.directions, {program.metric: 0.0, **program.margins}, SHARE)


def check_seeds(program: Program, arms: Iterable[Arm]) -> None:
    """Raises UserError if an arm's scores are all equal: the same run again is no evidence."""
    for arm in arms:
        scores = [run.scores.get(program.metric) for run in arm.runs.values() if not run.diverged]
        if len(scores) >= FEWEST and len({*scores}) == 1 and not program.deterministic:
            raise UserError(
                f"{arm.label}: {program.metric} is {scores[0]:g} under each of {plural(len(scores), 'seed')}: the "
                "program ignores {seed} and $SEED; let it use one, or set deterministic: true, and one run decides"
            )


def find_commit(path: Path) -> str:
    """The last commit that changed a file. Raises UserError if it is not committed as it is."""
    if (commit := worktree.git("rev-list", "--max-count=1", "HEAD", "--", str(path)).strip()) == "":
        raise UserError(f"{path}: not committed, and only committed files run programs: `git add {path}` and commit")
    return commit


def find_head() -> str:
    """The commit that is checked out. Raises UserError if a file has changed since."""
    changed = worktree.git("status", "--porcelain", "--untracked-files=no", "--", ".", *_but_ours()).splitlines()
    if changed:
        raise UserError(
            f"{changed[0][3:]}: has uncommitted changes, and an attempt runs a commit: commit or discard them"
        )
    return worktree.git("rev-parse", "HEAD").strip()


def is_same_code(one: str, other: str) -> bool:
    """Whether two commits differ in nothing that a program may read."""
    return one == other or not worktree.git("diff", "--name-only", "--no-ext-diff", one, other, "--", ".", *_but_ours())


def _but_ours() -> list[str]:
    return [f":(exclude){folder}" for folder in OURS]
