"""One experiment, from a free slot to a record. Running it again, even after a kill, changes nothing."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from ddpm.base.errors import UserError, printable
from ddpm.base.files import NO_ARRAY, digest, flatten
from ddpm.base.locks import lock
from ddpm.base.machine import die_with_parent
from ddpm.base.paths import PROCESSED, RUN
from ddpm.data.processed import SPLITS
from ddpm.params import file, inputs
from ddpm.runs import library, record, run_images
from ddpm.runs.record import Fingerprint, Record
from ddpm.study import slots
from ddpm.study.ledger import Ledger
from ddpm.study.plan import Experiment, Program

# Runs a command in its arguments, ends with the process that started it, and keeps the locks that it was handed until
# all that it started has ended: dvc gives its stages no descriptors, and a stage that gets SIGTERM saves its state.
KEEPER = f"""
import ctypes, os, signal, subprocess, sys

{inspect.getsource(die_with_parent)}
def end(*_):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(0, signal.SIGTERM)

signal.signal(signal.SIGTERM, end)
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: it inherits stages whose dvc was killed
die_with_parent(int(sys.argv[1]))
keeper = os.getpid()
code = subprocess.Popen(sys.argv[2:], preexec_fn=lambda: die_with_parent(keeper)).wait()
end()
try:
    while True:
        os.wait()
except ChildProcessError:
    sys.exit(code if code >= 0 else 128 - code)
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
    """Another process runs the experiment, or trains its model."""


class Worker:
    """Runs a study's experiments, in as many threads as call it.

    devices: one per thread, as CUDA_VISIBLE_DEVICES names them; empty without GPUs.
    """

    def __init__(self, ledger: Ledger, devices: Sequence[str] = ()):
        self.ledger = ledger
        self.devices = list(devices)
        self.running: set[subprocess.Popen[bytes]] = set()
        self.stopped = threading.Event()

    def run(self, experiment: Experiment) -> Record:
        """The experiment's record; it runs unless it is finished. Raises Busy, or UserError with the reason of a
        failure."""
        name, ledger = experiment.name, self.ledger
        if self.stopped.is_set():
            raise UserError(f"{name}: stopped")
        if ledger.study.is_open(experiment):
            why = f"all runs for tuning come first, and one of them needs a {ledger.study.plan.primary}"
            raise UserError(f"{name}: the values of {experiment.arm} are not known: {why}")
        with self._alone(ledger.lock(name), f"{name}: another process runs it"):
            if not ledger.path(name).exists():
                # one process trains a model, then the others take it from DVC's cache
                model = _lock_of("model", _inputs(experiment))
                with self._alone(model, f"{name}: its model is being trained for another experiment") as mine:
                    try:
                        ledger.write(experiment, self._record(experiment, mine))
                    except UserError as error:
                        if not self.stopped.is_set():
                            slots.fail(ledger.study, name, str(error))
                        raise
            ledger.lock(name).unlink(missing_ok=True)  # whoever waits for it finds the record
        return ledger.read(experiment)

    def stop(self) -> None:
        """End what is running, with its state saved, and wait until it has ended."""
        self.stopped.set()
        for process in list(self.running):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)

    @contextlib.contextmanager
    def _alone(self, path: Path, busy: str, patience: float = slots.PATIENCE) -> Iterator[FileIO]:
        """Hold a lock. Raises Busy if another process holds it for ``patience`` seconds, or until
        this one is stopped."""
        with lock(path, patience, self.stopped) as mine:
            if mine is None:
                raise Busy(busy)
            yield mine

    def _record(self, experiment: Experiment, model: FileIO) -> Record:
        """Run the experiment in a free slot.

        model: the lock of its model, handed on like the slot's until all that was started has ended.
        """
        study, program = self.ledger.study, experiment.program
        with slots.slot(self.ledger.commit) as (folder, slot):
            locks = (model, slot)
            (folder / file.PATH).write_text(yaml.safe_dump(experiment.params))
            self._make_shared(experiment, folder, locks)
            if program:
                run, samples = self._program(experiment, program, folder, locks), SAMPLES
            else:
                try:
                    self._start(experiment, folder, locks, *REPRO)
                except UserError as error:
                    if experiment.may_diverge and (reason := DIVERGED.search(str(error))):
                        # which of the values diverge is a result: everybody who runs the plan chooses from the same
                        return _diverged(experiment, reason[0])
                    raise
                run, samples = record.read(folder / RUN), run_images.PATH
            if experiment.kind == "verdict" and experiment.seed == study.plan.first_seed:
                from ddpm.pictures import grids

                grids.save_strip(_read(experiment, folder / samples), study.results / f"{experiment.arm}.png")
            return run

    def _make_shared(self, experiment: Experiment, folder: Path, locks: tuple[FileIO, ...]) -> None:
        """The first experiment makes the data; the others take it from DVC's cache, a program's at once."""
        params = experiment.params
        shared = {key: inputs.lookup(params, key) for key in ("data", "evaluate", "device")}
        done = _lock_of("data", [self.ledger.commit, shared])
        with self._alone(done, f"{experiment.name}: stopped", math.inf) as mine:
            if experiment.program or not done.read_text():
                self._start(experiment, folder, (*locks, mine), *REPRO, SHARED)
                done.write_text("done\n")

    def _program(self, experiment: Experiment, program: Program, folder: Path, locks: tuple[FileIO, ...]) -> Record:
        """Run a program in the slot, score its samples and return the record."""
        samples = folder / SAMPLES
        shutil.rmtree(samples.parent, ignore_errors=True)  # of another run
        samples.parent.mkdir(parents=True)
        places: dict[str, str] = {split: str(folder / PROCESSED / split / "images.npy") for split in SPLITS}
        places |= {"seed": str(experiment.seed), "samples": str(samples)}
        begin = time.monotonic()
        self._start(experiment, folder, locks, *(part.format_map(places) for part in shlex.split(program.program)))
        costs = {"seconds.program": round(time.monotonic() - begin, 1)}
        costs |= flatten(program.costs.model_dump(exclude_none=True))
        drawn, data = _read(experiment, samples), experiment.config.data
        if drawn.shape != (wanted := (experiment.config.sample.count, *data.shape)):
            raise UserError(f"{experiment.name}: its program wrote images of {drawn.shape}; allowed: {wanted}")
        options = [f"--seed={experiment.seed}", f"--name={experiment.arm}", f"--out={PROGRAM_RUN}"]
        options += [f"--cost={name}={cost}" for name, cost in costs.items()]
        self._start(experiment, folder, locks, *SCORE, str(SAMPLES), *options)
        run = record.read(folder / PROGRAM_RUN)
        versions = {name: metadata.version(name) for name in LIBRARIES if importlib.util.find_spec(name)}
        made_by = {"program": program.program, "code": program.digests(folder)}
        return run.model_copy(update={**made_by, "environment": run.environment | versions})

    def _start(self, experiment: Experiment, folder: Path, locks: tuple[FileIO, ...], *command: str) -> None:
        """Run a command in the slot until it ends. Raises UserError with the reason if it fails, or was stopped."""
        log = slots.log(self.ledger.study, experiment.name)
        device = self.devices.pop() if self.devices else None
        variables = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
            "DVC_NO_ANALYTICS": "1",
            "DVC_ROOT": str(Path.cwd()),  # where checkpoints are, and what data.source is relative to
            "DDPM_TRACKING": "off",
            **({"CUDA_VISIBLE_DEVICES": device} if device else {}),
        }
        with log.open("ab") as output:
            begin = output.tell()
            process = subprocess.Popen(
                [sys.executable, "-c", KEEPER, str(os.getpid()), *command],
                cwd=folder,
                env=slots.environment() | variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,  # its stages too, so that all of them can be ended
                pass_fds=[file.fileno() for file in locks],
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


def _lock_of(what: str, depends_on: object) -> Path:
    """The lock of something that several experiments of this machine need."""
    return slots.FOLDER / f"{what}-{digest(depends_on)[:12]}.lock"


def _inputs(experiment: Experiment) -> Mapping[str, Any]:
    """What the experiment's model depends on, next to the code."""
    params = experiment.params
    model = {key: inputs.lookup(params, key) for key in inputs.stage("train", params)[0]}
    return model | ({"program": experiment.program.program} if experiment.program else {})


def _diverged(experiment: Experiment, reason: str) -> Record:
    """The record of a training that has no model."""
    return Record(
        name=experiment.name,
        seed=experiment.seed,
        finished=record.now(),
        params=library.relevant(experiment.config.flat()) | dict(experiment.changed) | {"seed": experiment.seed},
        fingerprint=Fingerprint(hash=digest({}), comparable={}),
        scores={},
        diverged=reason,
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
