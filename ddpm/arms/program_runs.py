"""Runs of a program: a command with values and a seed, in a worktree of a commit.

Each run begins with the files of its commit and nothing that an earlier run left, has a time limit, and takes all that
it started with it when it ends. With one slot, runs take turns in the order in which they are asked for; with several
they run side by side. So if champion and challenger are asked for seed by seed, a machine that drifts hits both.

A program's row is a record like any other. Its params are the values and the commit, its one cost are the seconds.
"""

import math
import os
import platform
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Self

from ddpm.arms import revision
from ddpm.arms.pool import Done, Pool, Task
from ddpm.arms.run import Run
from ddpm.base.errors import UserError, plural, printable
from ddpm.base.files import atomic_path
from ddpm.base.locks import lock
from ddpm.base.machine import die_with_parent, hold_signals
from ddpm.programs import worktree
from ddpm.programs.output import LARGEST, read_file, read_stream
from ddpm.programs.program import COMMIT, SEED, InFile, Program
from ddpm.runs import record, rows
from ddpm.runs.record import Costs, Fingerprint, Record
from ddpm.verdicts.arms import Arm
from ddpm.verdicts.table import Columns

POLL = 0.01  # seconds; the end of a run is noticed that late
LARGEST_OUTPUT = 2**32  # bytes of what a run prints, which the disk holds until it ends
LOCK = worktree.FOLDER.with_suffix(".lock")  # of whoever adds a row
# what a program may read: the folders of ours say nothing about what it does
READ = (".", ":(exclude)ladders", ":(exclude)studies", ":(exclude)metrics")
SHARE = 0.013  # of the mean, by which a guard may get worse, unless the file has its margin
FEWEST = 3  # equal scores: two may be a coincidence of a coarse metric


@dataclass
class _Running:
    task: Task
    folder: Path
    process: subprocess.Popen[bytes]
    stdout: IO[bytes]
    stderr: IO[bytes]
    left: ExitStack  # its worktree, and what it printed
    begin: float = field(default_factory=time.monotonic)


class ProgramPool(Pool):
    """Runs tasks as runs of a program, on one slot unless more are asked for: one may need the whole machine."""

    def __init__(self, program: Program, slots: int | None):
        self.program, self.slots = program, slots or 1
        self.tasks, self.running = dict[str, Task](), list[_Running]()
        self.shown = set[str]()  # commits

    def submit(self, task: Task) -> None:
        self.tasks[task.name] = task

    def results(self, until: float | None = None) -> Iterator[Done]:
        """As ``Pool.results``. Nothing starts while nobody reads. Raises UserError if the commit cannot be checked
        out."""
        while self.tasks:
            begun = {one.task.name for one in self.running}
            waiting = (task for name, task in self.tasks.items() if name not in begun)
            for task in [*islice(waiting, self.slots - len(begun))]:  # it looks no further than there are slots
                if done := self._start(task):
                    yield done
            time.sleep(POLL)
            if until is not None and time.monotonic() > until:
                return
            for one in [*self.running]:
                limit = self._exceeds(one)
                if limit or one.process.poll() is not None:
                    yield self._end(one, limit)

    def _start(self, task: Task) -> Done | None:
        """Start a run, whose command is printed if it is the first of its commit; the end of one that cannot start."""
        commit, seed = task.params[COMMIT], task.params[SEED]
        words = self.program.fill(task.params, seed)
        if commit not in self.shown:  # stdout may be for programs
            print(f"runs {printable(shlex.join(words))} in a copy of commit {commit[:10]}", file=sys.stderr, flush=True)
            self.shown.add(commit)
        with ExitStack() as left:
            folder = left.enter_context(worktree.check_out(commit, self.program.links))
            stdout, stderr = (left.enter_context(TemporaryFile(dir=worktree.FOLDER)) for _ in range(2))
            try:
                with hold_signals():
                    process = subprocess.Popen(
                        words,
                        cwd=folder,
                        env=os.environ | {"SEED": str(seed), worktree.MARK: str(folder)},
                        stdin=subprocess.DEVNULL,
                        stdout=stdout,
                        stderr=stderr,
                        start_new_session=True,  # Ctrl-C reaches this process alone, which then kills the group
                        preexec_fn=partial(die_with_parent, os.getpid()),  # noqa: PLW1509 (there are no threads)
                    )
            except OSError as error:
                return self._done(task, {}, 0.0, f"{words[0]}: cannot be run ({error.strerror})", begun=False)
            self.running.append(_Running(task, folder, process, stdout, stderr, left.pop_all()))
        return None

    def _exceeds(self, one: _Running) -> str:
        """The limit that a run has exceeded, for the reason of its failure; otherwise empty."""
        if time.monotonic() - one.begin > 60 * self.program.minutes:
            return f"took longer than the file's `minutes: {self.program.minutes:g}` allow"
        if max(os.fstat(stream.fileno()).st_size for stream in (one.stdout, one.stderr)) > LARGEST_OUTPUT:
            return f"printed more than {LARGEST_OUTPUT:,} bytes"
        return ""

    def _end(self, one: _Running, reason: str) -> Done:
        """Kill what a run started, and read what it left. reason: the limit that it exceeded, if any."""
        seconds = time.monotonic() - one.begin
        worktree.kill(one.folder, one.process.pid)
        code = one.process.wait()
        self.running.remove(one)
        stderr, stdout = (read_stream(stream, self.program.patterns) for stream in (one.stderr, one.stdout))
        with atomic_path(one.task.log) as temporary:
            temporary.write_bytes(stderr.tail + stdout.tail)
        values = stderr.values | stdout.values
        if isinstance(rule := self.program.read, InFile):
            values |= read_file(one.folder / rule.file, self.program.directions)
        one.left.close()
        if code and not reason:
            name = f"exit code {code}" if code > 0 else f"killed by {signal.Signals(-code).name}"
            reason = ": ".join(filter(None, [name, stderr.last_line() or stdout.last_line()]))
        return self._done(one.task, values, seconds, reason)

    def _done(self, task: Task, values: Mapping[str, float], seconds: float, reason: str, begun: bool = True) -> Done:
        """The record of a run, which gets its row; or the reason why it failed, if that is no result."""
        del self.tasks[task.name]
        wanted = self.program.directions
        if not reason and (missing := [name for name in wanted if name not in values]):
            name, rule = missing[0], self.program.read
            form = f"{name}: 0.5, {name}=0.5, or a line in which a pattern has the number in ( )"
            where = f"in {rule.file}" if isinstance(rule, InFile) else f"by the file's `read: {rule}`; allowed: {form}"
            reason = f"no {name} {where}"
        if not reason and (odd := [name for name in wanted if not abs(values[name]) < LARGEST]):
            reason = f"{odd[0]} is {values[odd[0]]:g}"
        if reason and not task.may_diverge:
            return Done(task, reason=f"{reason}; {task.log} has the end of its output" if begun else reason)
        comparable = {"samples": 1, "run": self.program.run, "read": self.program.model_dump(mode="json")["read"]}
        facts = {
            "name": task.name,
            "seed": task.params[SEED],
            "program": _plain(self.program.run),
            "finished": record.now(),
            "params": task.params,
            "fingerprint": Fingerprint.of(comparable),
            "scores": {} if reason else {name: values[name] for name in wanted},
            "costs": Costs(seconds={"run": seconds}),
            "environment": {"system": platform.platform(terse=True), "python": platform.python_version()},
            "diverged": _plain(reason),
        }
        run = Record.model_validate(facts | dict(task.about) | {"revision": task.params[COMMIT]})
        if task.rows:
            row = run.model_dump(mode="json", exclude_defaults=True) | {"format": record.FORMAT}
            with lock(LOCK, math.inf):  # another process may have made it, too
                if not rows.has(task.rows, run.name):
                    rows.append(task.rows, row)
        return Done(task, run)

    def stop(self) -> None:
        """Kill what runs, and remove the worktrees."""
        for one in self.running:
            worktree.kill(one.folder, one.process.pid)
            one.process.wait()
            one.left.close()
        self.running.clear()


def _plain(text: str) -> str:
    """Text as a record may have it."""
    return text.translate({ord("<"): "(", ord(">"): ")"})[: record.LONGEST]


@dataclass(frozen=True)
class ProgramMaker:
    """Makes rows by a program, each of the commit that its arm names. head: the commit of arms that name none."""

    program: Program
    commit: str = ""
    head: str = ""

    def count_slots(self, runs: Collection[Run], slots: int | None) -> int:
        return slots or 1

    def pool(self, runs: Collection[Run], slots: int | None, keep_models: bool = False) -> ProgramPool:
        return ProgramPool(self.program, slots)

    def check_committed(self, paths: Collection[str]) -> None:
        """Raises UserError unless these files are committed, and what is checked out is what ``head`` has."""
        revision.check_committed(paths)
        if self.head and not is_same_code(self.head, find_head()):
            raise UserError(
                f"{next(iter(paths))}: its first runs are of commit {self.head[:10]}, and what is checked out differs: "
                "check that out, or name the commit in each arm"
            )

    def differences(self, run: Run, record: Record) -> list[str]:
        planned = run.params
        return sorted(key for key in planned | record.params if planned.get(key) != record.params.get(key))

    def other_code(self, run: Run, record: Record) -> list[str]:
        return []  # the commit is one of its params

    def at(self, commit: str, folder: Path | None) -> Self:
        return self


@dataclass(frozen=True)
class Facts(Columns):
    """Facts about a program's metrics. deterministic: whether it ignores the seed."""

    deterministic: bool = False

    @classmethod
    def of(cls, program: Program) -> Self:
        """The margin of a guard is a share of the mean unless the file has it."""
        margins = {program.primary: 0.0, **program.margins}
        return cls(program.directions, margins, SHARE, program.deterministic)

    def check_distinct(self, arms: Iterable[Arm]) -> None:
        """Raises UserError if an arm's scores are all equal: the same run again is no evidence."""
        metric = next(iter(self.directions))
        for arm in arms:
            scores = [run.scores.get(metric) for run in arm.runs.values() if not run.diverged]
            if len(scores) >= FEWEST and len({*scores}) == 1 and not self.deterministic:
                raise UserError(
                    f"{arm.label}: {metric} is {scores[0]:g} under each of {plural(len(scores), 'seed')}: the program "
                    "ignores {seed} and $SEED; let it use one; in a ladder with deterministic: true one run decides"
                )


def find_commit(path: Path) -> str:
    """The last commit that changed a file. Raises UserError if it is not committed as it is."""
    if (commit := worktree.git("rev-list", "--max-count=1", "HEAD", "--", str(path)).strip()) == "":
        raise UserError(f"{path}: not committed, and only committed files run programs: `git add {path}` and commit")
    return commit


def find_head() -> str:
    """The commit that is checked out. Raises UserError if a file has changed since."""
    changed = worktree.git("status", "--porcelain", "--untracked-files=no", "--", *READ).splitlines()
    if changed:
        raise UserError(
            f"{changed[0][3:]}: has uncommitted changes, and an attempt runs a commit: commit or discard them"
        )
    return worktree.git("rev-parse", "HEAD").strip()


def is_same_code(one: str, other: str) -> bool:
    """Whether two commits differ in nothing that a program may read."""
    return one == other or not worktree.git("diff", "--name-only", "--no-ext-diff", one, other, "--", *READ)
