"""Experiments, each in a process of its own, a number of them at a time; with the code of a commit, whatever is edited
meanwhile. Nothing here imports torch: that is the business of the processes (stages/forks.py)."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from io import FileIO
from pathlib import Path
from types import FrameType
from typing import IO, Any, NamedTuple, NoReturn, Self, cast

from ddpm.base import files
from ddpm.base.errors import UserError, printable
from ddpm.base.locks import try_lock
from ddpm.params import inputs
from ddpm.runs import record
from ddpm.runs.record import Record

FOLDER = Path(".ddpm/runs")  # of experiments that are not recorded yet, and of what several of them need
MODEL = "model"  # in an experiment's folder: a file with the name of the folder that keeps its model
RECORD = "run.json"  # in an experiment's folder, once it has ended well
BUSY = 75  # exit code: another process runs the experiment, or trains its model
PATIENCE = 1.0  # seconds, before asking again
FORKS = "stages/forks.py"
START = "import os, sys; sys.path.insert(0, os.getcwd()); from stages.forks import main; main()"
REASON = re.compile(r"^(?:error|ERROR): (.+)$", re.MULTILINE)
LINES = 20  # of a log that may hold the reason of a failure


class Task(NamedTuple):
    """A run to make.

    params: the content of its params.yaml. log: a file that gets what its process prints. record: the file in which the
    caller will keep the record; of all who share its folder, one runs the task, and nobody if it is there. program: of
    another trainer: its ``program``, ``files``, ``costs``, and the ``arm``; then params say how its samples are scored.
    """

    name: str
    params: Mapping[str, Any]
    log: Path
    record: Path | None = None
    program: Mapping[str, Any] | None = None


class Done(NamedTuple):
    """A task that has ended: its ``record``, or the ``reason`` of its failure; with neither, the record is where the
    task said. folder: with the samples and all else that the stages made, until the next one is asked for."""

    task: Task
    folder: Path
    record: Record | None = None
    reason: str = ""


class Running(NamedTuple):
    """A task that runs. begin: of what its log says now. alone: the lock of its record."""

    task: Task
    begin: int
    device: str | None
    alone: FileIO | None


class Server(NamedTuple):
    """The process from which all others are forked; it stops them at the end of ``tasks``."""

    process: subprocess.Popen[bytes]
    tasks: IO[bytes]
    answers: IO[bytes]


class Pool:
    """Runs tasks in at most ``at_once`` processes. A context: when it is left early, what runs saves its state.

    code: a folder with the code to run (``revision.export``). devices: one for each process, as CUDA_VISIBLE_DEVICES
    names them; empty without GPUs. keep_models: for experiments elsewhere that differ in sampling alone. clean: a
    folder to take for the project's, in which nothing was made; Python's variables are ignored, too.
    """

    def __init__(
        self,
        code: Path,
        at_once: int,
        devices: Sequence[str] = (),
        keep_models: bool = False,
        clean: Path | None = None,
    ):
        self.code = code.absolute()
        self.at_once = at_once
        self.devices = [devices[number % len(devices)] for number in range(at_once)] if devices else []
        self.keep_models = keep_models
        self.clean = clean
        self.root = (clean or Path()).absolute()
        self.folder = self.root / FOLDER
        self.waiting = deque[Task]()
        self.running: dict[int, Running] = {}
        self.count = 0
        self.server: Server | None = None

    def submit(self, task: Task) -> None:
        """Run the task when those before it leave a process for it; also while ``results`` is being read."""
        self.waiting.append(task)

    def results(self) -> Iterator[Done]:
        """Each task when it has ended, until none is left."""
        while self.waiting or self.running:
            for _ in range(len(self.waiting)):
                if len(self.running) < self.at_once:
                    yield from self._start(self.waiting.popleft())
            if self.running:
                yield from self._ended()
            elif self.waiting:  # others have them all
                time.sleep(PATIENCE)

    @property
    def left(self) -> int:
        """How many tasks have not ended."""
        return len(self.waiting) + len(self.running)

    def _serve(self) -> Server:
        """The server, started if there is none. Raises UserError for code that has none."""
        if self.server is None:
            if not (self.code / FORKS).exists():
                raise UserError(
                    f"--commit: its code has no {FORKS}, which runs experiments; allowed: a later commit; or check "
                    "that one out, and use its own ddpm"
                )
            flags = ["-I"] if self.clean else []
            process = subprocess.Popen(
                [sys.executable, *flags, "-c", START],
                cwd=self.code,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=self._environment(),
                process_group=0,  # Ctrl-C reaches this process alone, which then stops the others
            )
            self.server = Server(process, cast(IO[bytes], process.stdin), cast(IO[bytes], process.stdout))
        return self.server

    def _start(self, task: Task) -> Iterator[Done]:
        """Start the task; or let it wait, if somebody else runs it; or end it, if somebody has."""
        alone = None
        if task.record:
            task.record.parent.mkdir(parents=True, exist_ok=True)
            if (alone := try_lock(task.record.with_suffix(".lock"))) is None:
                self.waiting.append(task)
                return
            if task.record.exists():
                yield from self._finish(Done(task, self._place(task)), alone)
                return
        task.log.parent.mkdir(parents=True, exist_ok=True)
        task.log.touch()
        self.folder.mkdir(parents=True, exist_ok=True)
        device = self.devices.pop() if self.devices else None
        line = {
            "number": self.count,
            "log": str(task.log.absolute()),
            "environment": {} if device is None else {"CUDA_VISIBLE_DEVICES": device},
            "folder": str(self._place(task)),
            "code": str(self.code),
            "params": task.params,
            "program": task.program,
        }
        server = self._serve()
        self.running[self.count] = Running(task, task.log.stat().st_size, device, alone)
        self.count += 1
        with suppress(BrokenPipeError):  # its end is noticed where its answer is awaited
            server.tasks.write(f"{json.dumps(line)}\n".encode())
            server.tasks.flush()

    def _ended(self) -> Iterator[Done]:
        """Wait for the next task that ends. One whose model another process trains goes back to the end of the
        queue."""
        server = self._serve()
        if answer := server.answers.readline():
            codes = {(ended := json.loads(answer))["number"]: ended["code"]}
        else:  # the process from which all are forked was killed, so those that ran have saved their state and ended
            server.process.wait()
            self.server, codes = None, dict.fromkeys(self.running, 128 + signal.SIGKILL)
        for number, code in codes.items():
            task, begin, device, alone = self.running.pop(number)
            folder = self._place(task)
            if device is not None:
                self.devices.append(device)
            if code == BUSY:
                self.waiting.append(task)
                if alone:
                    alone.close()
            elif code:
                reason = f"{_reason(task.log, begin, code)}; {task.log} has the whole output"
                yield from self._finish(Done(task, folder, reason=reason), alone)
            else:
                yield from self._finish(Done(task, folder, record.read_record(folder / RECORD)), alone)

    def _finish(self, done: Done, alone: FileIO | None) -> Iterator[Done]:
        """Hand a task that has ended to the caller; then delete what its record makes superfluous."""
        kept = done.task.record
        try:
            yield done
        finally:  # also if the caller stops here
            if kept.exists() if kept else done.record:  # otherwise the caller may come back for it
                self._delete(done)
            _release(done.task, alone)

    def _delete(self, done: Done) -> None:
        """Delete the experiment's folder, and its model if no other task needs it."""
        others = (_model(task) for task in (*self.waiting, *(each.task for each in self.running.values())))
        model = done.folder / MODEL
        if model.exists() and not self.keep_models and _model(done.task) not in others:
            gone = (self.folder / model.read_text(encoding="utf-8")).with_suffix(".gone")
            shutil.rmtree(gone, ignore_errors=True)
            with suppress(FileNotFoundError):  # another study may have had it, too
                gone.with_suffix("").rename(gone)  # at once: half of a model must not be taken for one
            shutil.rmtree(gone, ignore_errors=True)
        shutil.rmtree(done.folder, ignore_errors=True)

    def _environment(self) -> dict[str, str]:
        return os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
            "DVC_ROOT": str(self.root),  # where checkpoints are, and what data.source is relative to
            "DDPM_RESUME": "restart",  # what other code has begun is another experiment
            "DDPM_TRACKING": "off",
        }

    def _place(self, task: Task) -> Path:
        return self.folder / files.digest([self.code.name, task.params, task.program])[:16]

    def __enter__(self) -> Self:
        def end(number: int, _: FrameType | None) -> NoReturn:
            raise SystemExit(128 + number)

        self.before = signal.signal(signal.SIGTERM, end)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop what runs, with its state saved."""
        if self.server:
            self.server.tasks.close()
            self.server.process.wait()
        for running in self.running.values():
            _release(running.task, running.alone)
        signal.signal(signal.SIGTERM, self.before)


def _release(task: Task, alone: FileIO | None) -> None:
    """Remove the lock of the task's record."""
    if task.record and alone:
        task.record.with_suffix(".lock").unlink(missing_ok=True)
        alone.close()


def _model(task: Task) -> str:
    """Equal for tasks that have a model in common."""
    params = dict(task.params)
    keys, _ = inputs.stage("train", params)
    return files.digest([{key: inputs.lookup(params, key) for key in keys}, task.program])


def _reason(log: Path, begin: int, code: int) -> str:
    """The first error in the last lines written after byte ``begin``, which is a stage's own; if there is none, the
    exit code and the last line."""
    text = log.read_bytes()[begin:].decode(errors="replace").replace("\r", "\n")
    lines = text.strip().splitlines()[-LINES:] or ["no output"]
    error = REASON.search("\n".join(lines))
    return printable(error[1] if error else f"exit code {code}: {lines[-1]}")
