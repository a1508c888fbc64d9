"""Runs of a program: a command with values and a seed, in a worktree of a commit.

Each run begins with the files of its commit and nothing that an earlier run left, has a time limit, and takes all that
it started with it when it ends. With one slot, runs take turns in the order in which they are asked for; with several
they run side by side. So if champion and challenger are asked for seed by seed, a machine that drifts hits both.

A program's row is a record like any other. Its params are the values and the commit, its one cost are the seconds.
"""

import math
import os
import platform
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO

from ddpm.arms.pool import Done, Pool, Task
from ddpm.base.files import atomic_path
from ddpm.base.locks import lock
from ddpm.base.machine import die_with_parent
from ddpm.programs import worktree
from ddpm.programs.output import LARGEST, Output, read_file
from ddpm.programs.program import COMMIT, NAME, SEED, InFile, Program, show
from ddpm.runs import record, rows
from ddpm.runs.record import Costs, Fingerprint, Record

POLL = 0.05  # seconds; the end of a run whose children hold its output is noticed that late
CHUNK = 2**16  # bytes
LOCK = worktree.FOLDER.with_suffix(".lock")  # of whoever adds a row


@dataclass
class _Running:
    task: Task
    folder: Path
    process: subprocess.Popen[bytes]
    outputs: dict[IO[bytes], Output]  # those that are open
    stdout: Output
    stderr: Output
    begin: float = field(default_factory=time.monotonic)


class ProgramPool(Pool):
    """Runs tasks as runs of a program, on one slot unless more are asked for: one may need the whole machine."""

    def __init__(self, program: Program, slots: int | None):
        self.program, self.slots = program, slots or 1
        self.tasks = dict[str, Task]()
        self.waiting, self.running = deque[Task](), list[_Running]()
        self.free: dict[str, list[Path]] = {}  # worktrees by commit
        self.shown, self.trees = set[str](), ExitStack()
        self.selector = selectors.DefaultSelector()

    def submit(self, task: Task, again: bool = False) -> None:
        self.tasks[task.name] = task
        # what fails twice fails for all that wait
        self.waiting.insert(0 if again else len(self.waiting), task)

    def results(self, until: float | None = None) -> Iterator[Done]:
        """As ``Pool.results``. Nothing starts while nobody reads. Raises UserError if the commit cannot be checked
        out."""
        while self.waiting or self.running:
            while self.waiting and len(self.running) < self.slots:
                if done := self._start(self.waiting.popleft()):
                    yield done
            for key, _ in self.selector.select(POLL if self.selector.get_map() else POLL / 50):
                self._read(key.fileobj)  # type: ignore[arg-type]
            if until is not None and time.monotonic() > until:
                return
            for one in [*self.running]:
                late = time.monotonic() - one.begin > 60 * self.program.minutes
                if late or one.process.poll() is not None:
                    yield self._end(one, late)

    def _start(self, task: Task) -> Done | None:
        """Start a run, whose command is printed if it is the first of its commit; the end of one that cannot start."""
        commit, seed = task.params[COMMIT], task.params[SEED]
        words = self.program.fill(task.params, seed)
        if commit not in self.shown:  # stdout may be for programs
            print(f"runs {show(words)} in a copy of commit {commit[:10]}", file=sys.stderr, flush=True)
            self.shown.add(commit)
        free = self.free.setdefault(commit, [])
        folder = free.pop() if free else self.trees.enter_context(worktree.check_out(commit, self.program.links))
        try:
            process = subprocess.Popen(
                words,
                cwd=folder,
                env=os.environ | {"SEED": str(seed), worktree.MARK: str(folder)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C reaches this process alone, which then kills the group
                preexec_fn=partial(die_with_parent, os.getpid()),  # noqa: PLW1509 (there are no threads)
            )
        except OSError as error:
            free.append(folder)
            return self._done(task, {}, 0.0, f"{words[0]}: cannot be run ({error.strerror})")
        one = _Running(task, folder, process, {}, self._listen(), self._listen())
        for stream, output in ((process.stdout, one.stdout), (process.stderr, one.stderr)):
            if stream:
                os.set_blocking(stream.fileno(), False)
                one.outputs[stream] = output
                self.selector.register(stream, selectors.EVENT_READ)
        self.running.append(one)
        return None

    def _listen(self) -> Output:
        rule, guards = self.program.read, self.program.guards
        if isinstance(rule, InFile):
            return Output(())
        return Output([rule, *guards]) if NAME.fullmatch(rule) else Output(guards, (self.program.metric, rule))

    def _read(self, stream: IO[bytes]) -> bool:
        """Read what there is of a stream; return whether there was any."""
        one = next(each for each in self.running if stream in each.outputs)
        chunk = stream.read(CHUNK)
        if chunk:
            one.outputs[stream].feed(chunk)
        elif chunk is not None:
            self._close(one, stream)
        return bool(chunk)

    def _close(self, one: _Running, stream: IO[bytes]) -> None:
        one.outputs.pop(stream).close()
        self.selector.unregister(stream)
        stream.close()

    def _end(self, one: _Running, late: bool) -> Done:
        """Kill what a run started, and read what it left."""
        seconds, commit = time.monotonic() - one.begin, one.task.params[COMMIT]
        worktree.kill(one.folder, one.process.pid)
        code = one.process.wait()
        for stream in [*one.outputs]:
            while not late and stream in one.outputs and self._read(stream):
                pass
            if stream in one.outputs:
                self._close(one, stream)
        self.running.remove(one)
        with atomic_path(one.task.log) as temporary:
            temporary.write_bytes(one.stderr.tail + one.stdout.tail)
        values = one.stderr.values | one.stdout.values
        if isinstance(rule := self.program.read, InFile):
            values |= read_file(one.folder / rule.file, self.program.directions)
        changed = worktree.clean(one.folder, commit, self.program.links)
        self.free[commit] += [] if changed else [one.folder]
        reason = f"changes {changed}, which git has, so that runs depend on earlier ones" if changed else ""
        if late:
            reason = f"took more than {self.program.minutes:g} minutes"
        elif code:
            name = f"exit code {code}" if code > 0 else f"killed by {signal.Signals(-code).name}"
            reason = ": ".join(filter(None, [name, one.stderr.last_line() or one.stdout.last_line()]))
        return self._done(one.task, values, seconds, reason)

    def _done(self, task: Task, values: Mapping[str, float], seconds: float, reason: str) -> Done:
        """The record of a run, which gets its row; or the reason why it failed, if that is no result."""
        del self.tasks[task.name]
        wanted = self.program.directions
        if not reason and (missing := [name for name in wanted if name not in values]):
            reason = f"no {missing[0]} {self._place(missing[0])}"
        if not reason and (odd := [name for name in wanted if not abs(values[name]) < LARGEST]):
            reason = f"{odd[0]} is {values[odd[0]]:g}"
        if reason and not task.may_diverge:
            return Done(task, reason=f"{reason}; {task.log} has the end of its output")
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

    def _place(self, name: str) -> str:
        """Where a metric was looked for, for the reason why it is missing."""
        if isinstance(rule := self.program.read, InFile):
            return f"in {rule.file}"
        if name == self.program.metric != rule:
            return f"in what it prints: no line has a number where {rule} has ( )"
        other = f"; for another form, read: {name} (\\S+)" if name == rule else ""
        return f"in what it prints, as {name}: 0.5 or {name}=0.5{other}"

    def stop(self) -> None:
        """Kill what runs, and remove the worktrees."""
        for one in self.running:
            worktree.kill(one.folder, one.process.pid)
            one.process.wait()
            for stream in [*one.outputs]:
                self._close(one, stream)
        self.running.clear()
        self.trees.close()
        self.selector.close()


def _plain(text: str) -> str:
    """Text as a record may have it."""
    return text.translate({ord("<"): "(", ord(">"): ")"})[: record.LONGEST]
