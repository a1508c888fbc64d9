"""One experiment, from a free slot to a record. Running it again, even after a kill, changes nothing."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddpm.base.errors import UserError, printable
from ddpm.base.files import NO_ARRAY, digest, write_json
from ddpm.base.machine import die_with_parent
from ddpm.base.paths import PROCESSED, RUN
from ddpm.data.processed import SPLITS
from ddpm.params import file, inputs
from ddpm.runs import library, record, run_images
from ddpm.runs.record import Fingerprint, Record
from ddpm.study import slots
from ddpm.study.experiments import Experiment, Study
from ddpm.study.ledger import Ledger
from ddpm.study.plan import Program

# Runs a command in its arguments, ends with the process that started it, and keeps the locks that it was handed until
# all that it started has ended: dvc gives its stages no descriptors, and a stage that gets SIGTERM saves its state.
KEEPER = f"""
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
os.execvp(sys.argv[2], sys.argv[2:])
"""
SAMPLES = Path("data/program/samples.npy")  # where a program writes its images
PROGRAM_RUN = SAMPLES.with_name("run.json")  # their record
REPRO = (sys.executable, "-m", "dvc", "repro")
SCORE = (sys.executable, "-c", "from ddpm.cli import main; main()", "score")  # of the slot's code
LIBRARIES = ("torch", "diffusers", "denoising_diffusion_pytorch")  # whose versions say more of a program than its code
SHARED = "reference"  # the last stage that experiments have in common
DIVERGED = re.compile(r"train: the (loss or its gradient is not finite|gradient overflowed)")
REASON = re.compile(r"^(?:error|ERROR): (.+)$", re.MULTILINE)
LINES = 20  # of a log that may hold the reason


class Busy(UserError):
    """Another process runs the experiment, or trains the model that it needs too."""


class OtherCode(UserError):
    """Results of the study were made by other code than this machine would run."""


class Worker:
    """Runs a study's experiments, in as many threads as call it.

    devices: one per thread, as CUDA_VISIBLE_DEVICES names them; empty without GPUs. Raises UserError if NVIDIA's MPS
    is asked for, and does not run.
    """

    def __init__(self, ledger: Ledger, devices: tuple[str, ...] = ()):
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
        """Run the experiment unless it is finished. Raises Busy, OtherCode, or UserError with the reason of a failure.

        patience: seconds to wait for the model, if it is being trained for another experiment.
        """
        if self.stopped.is_set():
            raise UserError(f"{experiment.name}: stopped")
        if self.study.is_open(experiment):
            raise UserError(f"{experiment.name}: {experiment.arm} has to be tuned first")
        if reason := self.ledger.refused.get(experiment.name):
            raise UserError(reason)
        lock = self.ledger.lock(experiment.name)
        with slots.locked(lock, slots.PATIENCE) as mine:
            if mine is None:
                raise Busy(f"{experiment.name}: another process runs it")
            if not self.ledger.path(experiment.name).exists():
                with _training(experiment, patience) as model:
                    self._attempt(experiment, model)
            lock.unlink(missing_ok=True)  # whoever waits for it finds the record
        (slots.state(self.study) / f"{experiment.name}.failed").unlink(missing_ok=True)

    def stop(self) -> None:
        """End what is running, with its state saved, and wait until it has ended."""
        self.stopped.set()
        for process in list(self.running):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)

    def _attempt(self, experiment: Experiment, model: int) -> None:
        """Run the experiment in a free slot; note a failure, unless its training diverged with values under test.

        model: a descriptor that holds the model, like the slot's lock, until all that was started has ended.
        """
        try:
            with slots.slot(self.ledger.commit) as (root, lock):
                folder = root / library.below(library.repository())
                self._check_code(folder)
                (folder / file.PATH).write_text(experiment.text)
                self._prepare(experiment, folder, (model, lock))
                if experiment.program:
                    run, samples = self._program(experiment, experiment.program, folder, (model, lock)), SAMPLES
                else:
                    self._start(experiment, folder, (model, lock), *REPRO)
                    run, samples = record.read(folder / RUN), run_images.PATH
                if self.study.leaves_picture(experiment):
                    from ddpm.pictures import strips

                    strips.write(_read(experiment, folder / samples), self.study.results / f"{experiment.arm}.png")
                self.ledger.write(experiment, run)
        except OtherCode:
            raise
        except UserError as error:
            if self.stopped.is_set():
                raise
            if experiment.tried is None or not DIVERGED.search(str(error)):
                write_json(slots.state(self.study) / f"{experiment.name}.failed", {"reason": str(error)})
                raise
            # which of the values diverge is a result: everybody who runs the plan chooses from the same
            self.ledger.write(experiment, _diverged(experiment, DIVERGED.search(str(error))))

    def _check_code(self, folder: Path) -> None:
        """Raises OtherCode, unless the plan lets code differ."""
        if "code" in self.study.plan.may_differ:
            return
        by_code = {digest(run.code): name for name, run in self.ledger.records.items()}
        for name in by_code.values():
            run = self.ledger.records[name]
            if differing := library.changed(run, folder):
                where = f" of commit {run.revision[:10]}" if run.revision else ""
                raise OtherCode(
                    f"{self.ledger.path(name)} was made by other code{where}: {differing[0]} differs from commit "
                    f"{self.ledger.commit[:10]}, which would run here: check out the code that made it, or remove it"
                )

    def _prepare(self, experiment: Experiment, folder: Path, locks: tuple[int, ...]) -> None:
        """The first experiment makes the shared data; the others take it from the cache."""
        params = self.study.params[experiment.arm]
        shared = {key: inputs.lookup(params, key) for key in ("data", "evaluate", "device")}
        marker = slots.state(self.study) / f"data-{digest([self.ledger.commit, shared])[:12]}"
        if marker.exists() and marker.read_text() and not experiment.program:
            return
        while not self.stopped.is_set():
            with slots.locked(marker, slots.PATIENCE) as mine:
                if mine is None:
                    continue
                if not marker.read_text() or experiment.program:
                    self._start(experiment, folder, (*locks, mine), *REPRO, SHARED)
                    marker.write_text("made\n")
                return

    def _program(self, experiment: Experiment, program: Program, folder: Path, locks: tuple[int, ...]) -> Record:
        """Run a program in the slot, score its samples and return the record."""
        samples = folder / SAMPLES
        shutil.rmtree(samples.parent, ignore_errors=True)  # of another run
        samples.parent.mkdir(parents=True)
        places: dict[str, str] = {split: str(folder / PROCESSED / split / "images.npy") for split in SPLITS}
        places |= {"seed": str(experiment.seed), "samples": str(samples)}
        begin = time.monotonic()
        self._start(experiment, folder, locks, *(part.format_map(places) for part in shlex.split(program.program)))
        seconds = {"program": round(time.monotonic() - begin, 1)}
        drawn, data = _read(experiment, samples), experiment.config.data
        if drawn.shape != (wanted := (experiment.config.sample.count, *data.shape)):
            raise UserError(f"{experiment.name}: its program wrote images of {drawn.shape}; allowed: {wanted}")
        named = [f"--seed={experiment.seed}", f"--name={experiment.arm}", f"--out={PROGRAM_RUN}"]
        self._start(experiment, folder, locks, *SCORE, str(SAMPLES), *named)
        run = record.read(folder / PROGRAM_RUN)
        costs = run.costs.model_dump(exclude_unset=True) | program.costs.model_dump(exclude_unset=True)
        costs["seconds"] = run.costs.seconds | seconds | program.costs.seconds
        versions = {name: metadata.version(name) for name in LIBRARIES if importlib.util.find_spec(name)}
        made_by = {"program": program.program, "code": program.digests(folder), "costs": record.Costs(**costs)}
        return run.model_copy(update={**made_by, "environment": run.environment | versions})

    def _start(self, experiment: Experiment, folder: Path, locks: tuple[int, ...], *command: str) -> None:
        """Run a command in the slot until it ends. Raises UserError with the reason if it fails, or was stopped."""
        log = slots.state(self.study) / f"{experiment.name}.log"
        begin = log.stat().st_size if log.exists() else 0
        device = self.devices.pop() if self.devices else None
        environment = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
            "DVC_NO_ANALYTICS": "1",
            "DVC_ROOT": str(Path.cwd()),  # where checkpoints are, and what data.source is relative to
            "DDPM_TRACKING": "off",
            **({"CUDA_VISIBLE_DEVICES": device} if device else {}),
        }
        variables = [f"{name}={value}" for name, value in environment.items()]
        keeper = [*slots.ENVIRONMENT, *variables, sys.executable, "-c", KEEPER, str(os.getpid()), *command]
        with log.open("ab") as output:
            process = subprocess.Popen(
                keeper,
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
            raise UserError(f"{experiment.name}: {_reason(log, begin, code)}; {log} has the whole output")


@contextlib.contextmanager
def _training(experiment: Experiment, patience: float) -> Iterator[int]:
    """Hold the experiment's model, by a lock with this descriptor: one process trains it, then the others take it from
    DVC's cache.

    Raises Busy if another process holds it for ``patience`` seconds.
    """
    params = file.decode(experiment.text, experiment.name)
    learned = {key: inputs.lookup(params, key) for key in inputs.stage("train", params)[0]}
    learned |= {"program": experiment.program.program} if experiment.program else {}
    with slots.locked(slots.FOLDER / f"model-{digest(learned)[:12]}.lock", patience) as mine:
        if mine is None:
            raise Busy(f"{experiment.name}: its model is being trained for another experiment")
        yield mine


def _diverged(experiment: Experiment, said: re.Match[str] | None) -> Record:
    """The record of a training that has no model."""
    return Record(
        name=experiment.name,
        seed=experiment.seed,
        finished=record.now(),
        params=library.relevant(experiment.config.flat()) | dict(experiment.changed) | {"seed": experiment.seed},
        fingerprint=Fingerprint(hash=digest({}), comparable={}),
        scores={},
        diverged=said[0] if said else "",
    )


def _read(experiment: Experiment, samples: Path) -> NDArray[np.uint8]:
    """The images that an experiment drew. Raises UserError if there are none."""
    try:
        with samples.open("rb") as file:
            return run_images.read(file)
    except NO_ARRAY as error:
        raise UserError(f"{experiment.name}: {samples}: not an .npy file of uint8 N×C×H×W ({error})") from error


def _reason(log: Path, begin: int, code: int) -> str:
    """The first error in the last lines written after byte ``begin``, which is a stage's own; if there is none, the
    exit code and the last line."""
    text = log.read_bytes()[begin:].decode(errors="replace").replace("\r", "\n")
    lines = text.strip().splitlines()[-LINES:] or ["no output"]
    error = REASON.search("\n".join(lines))
    return printable(error[1] if error else f"exit code {code}: {lines[-1]}")
