"""Experiments, each in a process of its own, a number of them at a time; with the code of a commit, whatever is edited
meanwhile. Nothing here imports torch: that is the business of the processes (stages/maker.py).

An executor of concurrent.futures would fork this process, whose code is what is checked out; and one child that is
killed breaks it for all others.
"""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import IO, Any, NamedTuple, Self, cast

from ddpm.base import files
from ddpm.base.errors import UserError
from ddpm.base.machine import cores, exit_at_sigterm
from ddpm.compute import devices as machine
from ddpm.runs import record
from ddpm.runs.record import Record

FOLDER = Path(".ddpm/runs")  # of experiments that are not recorded yet, and of what several of them need
SERVER = "stages/maker.py"
GRACE = 60  # seconds, for a step and its checkpoint
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")  # one that is forgotten overrides another
START = "import os, sys; sys.path.insert(0, os.getcwd()); from stages.maker import main; main()"


class Task(NamedTuple):
    """A run to make.

    params: the content of its params.yaml. log: a file that gets what its process prints. rows: the file that gets its
    row, with the fields ``about``, of which one is the row's name; of all who share its folder, one runs the task, and
    nobody if the row is there. picture: a file for some of its images. program: of another trainer: its ``program``,
    ``files``, ``costs``, and the ``arm``; then params say how its samples are scored. may_diverge: whether a training
    that diverges is a result, with a record. keep: a folder for a grid of its images, one of real ones and, with
    ``keep_model``, its model.
    """

    name: str
    params: Mapping[str, Any]
    log: Path
    rows: Path | None = None
    about: Mapping[str, Any] = {}
    picture: Path | None = None
    program: Mapping[str, Any] | None = None
    may_diverge: bool = False
    keep: Path | None = None
    keep_model: bool = False


class Done(NamedTuple):
    """A task that has ended: its ``record``, unless that is a row now; or the ``reason`` of its failure."""

    task: Task
    record: Record | None = None
    reason: str = ""


def find_gpus(devices: Iterable[str]) -> tuple[str, ...]:
    """The GPUs that tasks on these devices, as params name them, may use, as CUDA_VISIBLE_DEVICES names them."""
    return machine.gpus() if {*devices} - {"cpu"} else ()


def count_slots(given: int | None, devices: Iterable[str]) -> int:
    """How many tasks on these devices run at a time: those ``given``, or one per GPU or core."""
    return given or len(find_gpus(devices)) or cores()


class Pool:
    """Runs tasks in processes, on as many ``slots`` as ``count_slots`` says. A context: when it is left early, what
    runs saves its state.

    code: a folder with the code to run (``revision.export``). devices: of the tasks, as params name them. keep_models:
    for experiments elsewhere that differ in sampling alone. clean: a folder to take for the project's, in which nothing
    was made; Python's variables are ignored, too.
    """

    def __init__(
        self,
        code: Path,
        slots: int | None,
        devices: Collection[str] = ("cpu",),
        keep_models: bool = False,
        clean: Path | None = None,
    ):
        self.code = code.absolute()
        options = {"at_once": count_slots(slots, devices), "devices": find_gpus(devices), "keep_models": keep_models}
        self.options = json.dumps(options)
        self.clean = clean
        self.root = (clean or Path()).absolute()
        self.tasks: dict[str, Task] = {}  # those that have not ended

    def submit(self, task: Task) -> None:
        """Run the task when those before it leave a process for it; also while ``results`` is being read."""
        folder = self.root / FOLDER / files.digest([self.code.name, task.params, task.program])[:16]
        line = task._asdict() | {"folder": folder, "code": self.code, "again": False}  # for older code
        line |= {key: path.absolute() for key, path in line.items() if isinstance(path, Path)}
        self.tasks[task.name] = task
        server = cast(IO[bytes], self.server.stdin)
        with suppress(BrokenPipeError):  # its end is noticed where its answer is awaited
            server.write(f"{json.dumps(line, default=str)}\n".encode())

    def run(self, tasks: Iterable[Task] = (), until: float | None = None) -> Iterator[Done]:
        """Submit the tasks; then as ``results``. More may be submitted meanwhile."""
        for task in tasks:
            self.submit(task)
        return self.results(until)

    def results(self, until: float | None = None) -> Iterator[Done]:
        """Each task when it has ended, until none is left, or the clock (``time.monotonic``) shows ``until``: what then
        runs, stops when the context is left. Raises UserError if the process has ended from which all others are
        forked."""
        while self.tasks:
            answers = cast(IO[bytes], self.server.stdout)
            left = None if until is None else max(0.0, until - time.monotonic())
            if not select.select([answers], [], [], left)[0]:
                return
            if not (answer := answers.readline()):
                code = self.server.wait()
                raise UserError(f"{SERVER}: ended with exit code {code}: run the same command again")
            ended = json.loads(answer)
            task = self.tasks.pop(ended["name"])
            if ended["reason"]:
                yield Done(task, reason=f"{ended['reason']}; {task.log} has the whole output")
            else:
                yield Done(task, ended["record"] and record.parse_record(json.dumps(ended["record"]), task.name))

    @cached_property
    def server(self) -> subprocess.Popen[bytes]:
        """The process from which all others are forked, and which stops them at the end of its input. Raises UserError
        for code that has none."""
        if not (self.code / SERVER).exists():
            raise UserError(
                f"--commit: its code has no {SERVER}, which makes rows; allowed: a later commit; or check that one "
                "out, and use its own ddpm"
            )
        environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            **dict.fromkeys(THREADS, os.environ.get("OMP_NUM_THREADS", "1")),
            "DVC_ROOT": str(self.root),  # where checkpoints are, and what data.source is relative to
            "DDPM_RESUME": "restart",  # what other code has begun is another experiment
            "DDPM_TRACKING": "off",
        }
        return subprocess.Popen(
            [sys.executable, *(["-I"] if self.clean else []), "-c", START, self.options],
            cwd=self.code,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,  # what waits to be read is seen by select
            env=environment,
            process_group=0,  # Ctrl-C reaches this process alone, which then stops the others
        )

    def __enter__(self) -> Self:
        self.before = exit_at_sigterm()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        signal.signal(signal.SIGTERM, self.before)

    def stop(self) -> None:
        """Stop what runs, with its state saved; kill what has not stopped in GRACE seconds, or at a second signal."""
        if "server" not in vars(self):  # nothing was started
            return
        try:
            with suppress(BrokenPipeError):
                cast(IO[bytes], self.server.stdin).close()
            self.server.wait(GRACE)
        except (subprocess.TimeoutExpired, KeyboardInterrupt, SystemExit):
            print("killed: experiments that did not stop; they continue from their last checkpoint", file=sys.stderr)
            os.killpg(self.server.pid, signal.SIGKILL)
            self.server.wait()
