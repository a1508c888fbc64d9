"""One experiment, from a free slot to a commit that DVC knows. Running it again, even after a kill, changes nothing."""

from __future__ import annotations

import contextlib
import inspect
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pygit2

from ddpm.base.errors import UserError, printable
from ddpm.base.files import digest
from ddpm.base.machine import die_with_parent
from ddpm.compare import measured
from ddpm.compare.snapshots import FILES, SAMPLE, TRAIN, Snapshot
from ddpm.params import file, inputs
from ddpm.runs.library import below, repository
from ddpm.study import results, slots
from ddpm.study.plan import Experiment, Study

# Ends with the process that started it, and keeps the locks that it was handed until dvc and its stages have ended: dvc
# gives them no descriptors, and a stage that gets SIGTERM saves its state first.
DVC = f"""
import ctypes, os, signal, sys

{inspect.getsource(die_with_parent)}
def end(*_):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(0, signal.SIGTERM)

signal.signal(signal.SIGTERM, end)
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: it inherits stages whose dvc was killed
die_with_parent(int(sys.argv[1]))
keeper = os.getpid()
if child := os.fork():
    code, left = 0, True
    while left:
        try:
            pid, status = os.wait()
        except ChildProcessError:
            left = False
        else:
            if pid == child:
                code = os.waitstatus_to_exitcode(status)
                end()
    sys.exit(code if code >= 0 else 128 - code)
signal.signal(signal.SIGTERM, signal.SIG_DFL)
die_with_parent(keeper)
from dvc.cli import main
sys.exit(main(sys.argv[2:]))
"""
SHARED = "reference"  # the last stage that experiments have in common
DIVERGED = re.compile(r"train: the (loss or its gradient is not finite|gradient overflowed)")
REASON = re.compile(r"^(?:error|ERROR): (.+)$", re.MULTILINE)
LINES = 20  # of a log that may hold the reason


class Busy(UserError):
    """Another process runs the experiment, or trains the model that it needs too."""


class Worker:
    """Runs a study's experiments, in as many threads as call it.

    devices: one per thread, as CUDA_VISIBLE_DEVICES names them; empty without GPUs. Raises UserError if NVIDIA's MPS
    is asked for, and does not run.
    """

    def __init__(self, ledger: results.Ledger, devices: tuple[str, ...] = ()):
        pipes = os.environ.get("CUDA_MPS_PIPE_DIRECTORY")
        if devices and pipes and not Path(pipes, "control").exists():
            raise UserError(
                f"CUDA_MPS_PIPE_DIRECTORY: no MPS daemon listens in {pipes}, so no GPU would answer; start it with "
                "`nvidia-cuda-mps-control -d`, or unset the variable"
            )
        self.ledger = ledger
        self.devices = list(devices)
        self.running: set[subprocess.Popen[bytes]] = set()
        self.stopped = threading.Event()

    @property
    def study(self) -> Study:
        return self.ledger.study

    def run(self, experiment: Experiment, patience: float = slots.PATIENCE) -> None:
        """Run the experiment unless it is finished. Raises Busy, or UserError with the reason of a failure.

        patience: seconds to wait for the model, if it is being trained for another experiment.
        """
        if self.stopped.is_set():
            raise UserError(f"{experiment.name}: stopped")
        if self.study.is_open(experiment):
            raise UserError(f"{experiment.name}: {experiment.variant} has to be tuned first")
        state = results.state(self.study)
        with slots.locked(state / f"{experiment.name}.lock", slots.PATIENCE) as mine:
            if mine is None:
                raise Busy(f"{experiment.name}: another process runs it")
            if reason := self.ledger.damaged.get(experiment.name):
                raise UserError(reason)
            if results.exists(self.ledger.commit, experiment.name):
                return
            with _training(experiment, patience) as model:
                self._attempt(experiment, model)
            (state / f"{experiment.name}.failed").unlink(missing_ok=True)

    def stop(self) -> None:
        """End what is running, with its state saved, and wait until it has ended."""
        self.stopped.set()
        for process in list(self.running):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)

    def _attempt(self, experiment: Experiment, model: int) -> None:
        """Run the experiment in a free slot; note a failure, unless its training diverged with values under test."""
        started = time.monotonic()
        try:
            with slots.slot(self.ledger.commit) as (folder, lock):
                self._make(experiment, folder / below(repository()), (model, lock))
        except UserError as error:
            if self.stopped.is_set():
                raise
            if experiment.tried is None or not DIVERGED.search(str(error)):
                results.note_failure(self.study, experiment.name, str(error))
                raise
            # which of the values diverge is a result: everybody who runs the plan chooses from the same
            seconds = time.monotonic() - started
            results.publish(experiment, self.study, self.ledger.commit, {}, seconds, diverged=str(error))

    def _make(self, experiment: Experiment, folder: Path, locks: tuple[int, ...]) -> None:
        """locks: descriptors that hold the model and the slot until all that was started in it has ended."""
        started = time.monotonic()
        (folder / file.PATH).write_text(experiment.text)
        self._prepare(experiment, folder, locks)
        self._dvc(experiment, folder, locks, "repro")
        if not self.stopped.is_set():
            changed = _changed(folder)
            read = {path: (folder / path).read_bytes() for path in FILES if (folder / path).is_file()}
            results.checked(self.study, experiment, Snapshot(experiment.name, "dvc", 0.0, read))
            # stages that DVC's cache had took no time now, and training may have begun before a stop
            seconds = max(time.monotonic() - started, _recorded(read))
            results.publish(experiment, self.study, self.ledger.commit, changed, seconds)

    def _prepare(self, experiment: Experiment, folder: Path, locks: tuple[int, ...]) -> None:
        """The first experiment makes the shared data; the others take it from the cache."""
        params = self.study.params[experiment.variant]
        shared = {key: inputs.lookup(params, key) for key in ("data", "evaluate", "device")}
        made = results.state(self.study) / f"data-{digest([self.ledger.commit, shared])[:12]}"
        if made.exists() and made.read_text():
            return
        while not self.stopped.is_set():
            with slots.locked(made, slots.PATIENCE) as mine:
                if mine is None:
                    continue
                if not made.read_text():
                    self._dvc(experiment, folder, (*locks, mine), "repro", SHARED)
                    made.write_text("made\n")
                return

    def _dvc(self, experiment: Experiment, folder: Path, locks: tuple[int, ...], *arguments: str) -> None:
        log = results.state(self.study) / f"{experiment.name}.log"
        begin = log.stat().st_size if log.exists() else 0
        device = self.devices.pop() if self.devices else None
        own = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
            "DVC_NO_ANALYTICS": "1",
            "DVC_ROOT": str(Path.cwd()),  # where checkpoints are, and what data.source is relative to
            "DDPM_TRACKING": "off",
            **({"CUDA_VISIBLE_DEVICES": device} if device else {}),
        }
        settings = [f"{name}={value}" for name, value in own.items()]
        command = [*slots.ENVIRONMENT, *settings, sys.executable, "-c", DVC, str(os.getpid()), *arguments]
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,  # its stages too, so that all of them can be ended
                pass_fds=locks,
            )
        self.running.add(process)
        try:
            if self.stopped.is_set():  # since it was last asked
                self.stop()
            code = process.wait()
        finally:
            self.running.discard(process)
            if device:
                self.devices.append(device)
        if self.stopped.is_set():
            raise UserError(f"{experiment.name}: stopped")
        if code:
            raise UserError(f"{experiment.name}: {_reason(log, begin)}; {log} has the whole output")


@contextlib.contextmanager
def _training(experiment: Experiment, patience: float) -> Iterator[int]:
    """Hold the experiment's model, by a lock with this descriptor: one process trains it, then the others take it from
    DVC's cache.

    Raises Busy if another process holds it for ``patience`` seconds.
    """
    params = file.decode(experiment.text, experiment.name)
    learned = {key: inputs.lookup(params, key) for key in inputs.stage("train", params)[0]}
    with slots.locked(results.FOLDER / f"model-{digest(learned)[:12]}.lock", patience) as mine:
        if mine is None:
            raise Busy(f"{experiment.name}: its model is being trained for another experiment")
        yield mine


def _changed(folder: Path) -> dict[str, bytes]:
    """What the pipeline wrote, except what git ignores: path in the repository -> content."""
    git = pygit2.Repository(str(folder))
    gone = pygit2.enums.FileStatus.IGNORED | pygit2.enums.FileStatus.WT_DELETED
    return {path: Path(git.workdir, path).read_bytes() for path, flags in git.status().items() if not flags & gone}


def _recorded(files: Mapping[str, bytes]) -> float:
    """Seconds of training and sampling, as the stages that ran recorded them."""
    return sum(float(measured.parse(files.get(path, b"{}")).get("seconds", 0)) for path in (TRAIN, SAMPLE))


def _reason(log: Path, begin: int) -> str:
    """The first error in the last lines written after byte ``begin``, which is a stage's own; if there is none, the
    last line."""
    text = log.read_bytes()[begin:].decode(errors="replace").replace("\r", "\n")
    lines = text.strip().splitlines()[-LINES:] or ["no output"]
    found = REASON.search("\n".join(lines))
    return printable(found[1] if found else lines[-1])
