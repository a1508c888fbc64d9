"""The maker of rows whose runs are those of a program: a command with values and a seed, in a worktree of a commit.

Each run begins with the files of its commit and nothing that an earlier run left, has a time limit, and takes all that
it started with it when it ends. With one slot, runs take turns in the order in which they are asked for; with several
they run side by side. So if champion and challenger are asked for seed by seed, a machine that drifts hits both.
"""

from __future__ import annotations

import os
import platform
import selectors
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

from ddpm.base.files import atomic_path
from ddpm.base.machine import die_with_parent
from ddpm.programs import worktree
from ddpm.programs.output import LARGEST, Output, read_file
from ddpm.programs.program import NAME, InFile, Program, Values, show

POLL = 0.05  # seconds; the end of a run whose children hold its output is noticed that late
CHUNK = 2**16  # bytes


class Job(NamedTuple):
    """A run to make. name: differs from those of others. log: a file that gets the end of what it prints."""

    name: str
    values: Values
    commit: str
    seed: int
    log: Path | None = None


class Row(NamedTuple):
    """What a run gave. scores: the score and each guard; or the ``reason`` why it failed. facts: the
    command, the commit and the machine."""

    job: Job
    scores: Mapping[str, float]
    seconds: float
    facts: Mapping[str, str]
    reason: str = ""


@dataclass
class _Running:
    job: Job
    folder: Path
    words: list[str]
    process: subprocess.Popen[bytes]
    outputs: dict[IO[bytes], Output]  # those that are open
    stdout: Output
    stderr: Output
    begin: float = field(default_factory=time.monotonic)


class Maker:
    """Makes rows on ``slots``, until it is closed. say: receives each command before it first runs."""

    def __init__(self, program: Program, slots: int, say: Callable[[str], None]):
        self.program, self.slots, self.say = program, slots, say
        self.waiting, self.running = deque[Job](), list[_Running]()
        self.free: dict[str, list[Path]] = {}  # worktrees by commit
        self.shown, self.trees = set[str](), ExitStack()
        self.selector = selectors.DefaultSelector()

    def submit(self, job: Job, first: bool = False) -> None:
        """Make the row when those before it leave a slot; also while ``results`` is being read. first: before those
        that wait."""
        self.waiting.insert(0 if first else len(self.waiting), job)

    def results(self, until: float | None = None) -> Iterator[Row]:
        """Each row when it is made, until none is left, or the clock (``time.monotonic``) shows ``until``. Nothing
        starts while nobody reads. Raises UserError if the commit cannot be checked out."""
        while self.waiting or self.running:
            while self.waiting and len(self.running) < self.slots:
                job = self.waiting.popleft()
                if row := self._start(job):
                    yield row
            for key, _ in self.selector.select(POLL if self.selector.get_map() else POLL / 50):
                self._read(key.fileobj)  # type: ignore[arg-type]
            if until is not None and time.monotonic() > until:
                return
            for one in [*self.running]:
                late = time.monotonic() - one.begin > 60 * self.program.minutes
                if late or one.process.poll() is not None:
                    yield self._end(one, late)

    def _start(self, job: Job) -> Row | None:
        """Start a run; the row of one that cannot start."""
        words = self.program.fill(job.values, job.seed)
        if job.commit not in self.shown:
            self.say(f"runs {show(words)} in a copy of commit {job.commit[:10]}")
            self.shown.add(job.commit)
        free = self.free.setdefault(job.commit, [])
        folder = free.pop() if free else self.trees.enter_context(worktree.check_out(job.commit, self.program.links))
        try:
            process = subprocess.Popen(
                words,
                cwd=folder,
                env=os.environ | {"SEED": str(job.seed), worktree.MARK: str(folder)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C reaches this process alone, which then kills the group
                preexec_fn=partial(die_with_parent, os.getpid()),  # noqa: PLW1509 (there are no threads)
            )
        except OSError as error:
            free.append(folder)
            return self._row(job, words, {}, 0.0, f"{words[0]}: cannot be run ({error.strerror})")
        one = _Running(job, folder, words, process, {}, self._listen(), self._listen())
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

    def _end(self, one: _Running, late: bool) -> Row:
        """Kill what a run started, and read what it left."""
        seconds = time.monotonic() - one.begin
        worktree.kill(one.folder, one.process.pid)
        code = one.process.wait()
        for stream in [*one.outputs]:
            while not late and stream in one.outputs and self._read(stream):
                pass
            if stream in one.outputs:
                self._close(one, stream)
        self.running.remove(one)
        if one.job.log:
            with atomic_path(one.job.log) as temporary:
                temporary.write_bytes(one.stderr.tail + one.stdout.tail)
        values = one.stderr.values | one.stdout.values
        if isinstance(rule := self.program.read, InFile):
            values |= read_file(one.folder / rule.file, self.program.directions)
        changed = worktree.clean(one.folder, one.job.commit, self.program.links)
        self.free[one.job.commit] += [] if changed else [one.folder]
        reason = f"changes {changed}, which git has, so that runs depend on earlier ones" if changed else ""
        if late:
            reason = f"took more than {self.program.minutes:g} minutes"
        elif code:
            name = f"exit code {code}" if code > 0 else f"killed by {signal.Signals(-code).name}"
            reason = ": ".join(filter(None, [name, one.stderr.last_line() or one.stdout.last_line()]))
        return self._row(one.job, one.words, values, seconds, reason)

    def _row(self, job: Job, words: list[str], values: Mapping[str, float], seconds: float, reason: str) -> Row:
        facts = {"command": show(words), "commit": job.commit, "system": platform.platform(terse=True)}
        facts["python"] = platform.python_version()
        wanted = self.program.directions
        if not reason and (missing := [name for name in wanted if name not in values]):
            reason = f"no {missing[0]} {self._place(missing[0])}"
        if not reason and (odd := [name for name in wanted if not abs(values[name]) < LARGEST]):
            reason = f"{odd[0]} is {values[odd[0]]:g}"
        return Row(job, {} if reason else {name: values[name] for name in wanted}, seconds, facts, reason)

    def _place(self, name: str) -> str:
        """Where a metric was looked for, for the reason why it is missing."""
        if isinstance(rule := self.program.read, InFile):
            return f"in {rule.file}"
        if name == self.program.metric != rule:
            return f"in what it prints: no line has a number where {rule} has ( )"
        other = f"; for another form, read: {name} (\\S+)" if name == rule else ""
        return f"in what it prints, as {name}: 0.5 or {name}=0.5{other}"

    def close(self) -> None:
        """Kill what runs, and remove the worktrees."""
        for one in self.running:
            worktree.kill(one.folder, one.process.pid)
            one.process.wait()
            for stream in [*one.outputs]:
                self._close(one, stream)
        self.running.clear()
        self.trees.close()
        self.selector.close()
