"""Experiments, a process each, forked from this one, which has imported all that stages need (ddpm/arms/pool.py).

It reads tasks from its input, a line of JSON each, and answers with a line when one has ended. At the end of its input
it stops those that run, with their state saved. Only plain values pass, so whoever asks may have other code than this.
"""

import gc
import json
import os
import shutil
import sys
from collections import deque
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkContext, ForkProcess
from pathlib import Path
from typing import IO, Any, NamedTuple, NoReturn

from ddpm.base.errors import exit_code, print_error, printable
from ddpm.base.locks import is_locked, lock, read_holder
from ddpm.base.machine import die_with_parent
from stages import __main__ as stages
from stages import experiment

STDIN = 0
FORK = ForkContext()
Task = dict[str, Any]


class Child(NamedTuple):
    """A process that runs a task. begin: of what its log says of it."""

    task: Task
    process: ForkProcess
    begin: int
    device: str | None


class Server:
    """Runs tasks in at most ``at_once`` processes. devices, keep_models: as in ``pool.Pool``."""

    def __init__(self, at_once: int, devices: list[str], keep_models: bool, answers: IO[str]):
        self.at_once = at_once
        self.devices = [devices[number % len(devices)] for number in range(at_once)] if devices else []
        self.keep_models = keep_models
        self.waiting = deque[Task]()
        self.running: dict[Connection, Child] = {}  # by what each answers, at its end
        self.answers = answers
        self.blocked = set[str]()  # tasks of which it was said that another process runs them

    def serve(self) -> None:
        asked = os.fdopen(STDIN, "rb", buffering=0)  # what waits to be read is seen by ``wait``
        while True:
            self._start()
            others = experiment.PATIENCE if self.waiting and len(self.running) < self.at_once else None
            for ready in wait([STDIN, *self.running], others):
                if isinstance(ready, Connection):
                    self._end(ready)
                    continue
                if not (line := asked.readline()):
                    for child in self.running.values():
                        child.process.terminate()
                    for child in self.running.values():
                        child.process.join()
                    return
                task = json.loads(line)
                self.waiting.append(task | {"model": experiment.read_code(task["params"])})

    def _start(self) -> None:
        """Start those that wait, except tasks that run elsewhere."""
        for _ in range(len(self.waiting)):
            if len(self.running) < self.at_once:
                task = self.waiting.popleft()
                if locked := next(filter(is_locked, experiment.locks_of(task)), None):
                    if not self.running and task["name"] not in self.blocked:
                        self.blocked.add(task["name"])
                        print(f"{task['name']}: waiting for {read_holder(locked)}, which runs it", file=sys.stderr)
                    self.waiting.append(task)
                    continue
                device = self.devices.pop() if self.devices else None
                (log := Path(task["log"])).parent.mkdir(parents=True, exist_ok=True)
                log.touch()
                answers, answer = FORK.Pipe(duplex=False)
                process = FORK.Process(target=self._run, args=(task, device, os.getpid(), answer))
                begin = log.stat().st_size
                process.start()
                answer.close()  # so that it ends with the process
                self.running[answers] = Child(task, process, begin, device)

    def _run(self, task: Task, device: str | None, parent: int, answer: Connection) -> NoReturn:
        """Run a task in this process, which prints into its log; ``answer`` takes the line of an error, or what
        ``experiment.run`` returns."""
        log = os.open(task["log"], os.O_WRONLY | os.O_APPEND)
        for descriptor in (1, 2):
            os.dup2(log, descriptor)
        self.answers.close()  # whoever waits for them notices that the server has gone, even if this process stays
        die_with_parent(parent)
        if device is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = device

        def say(kind: str, line: str) -> None:
            print_error(kind, line)
            answer.send_bytes(json.dumps(line).encode())

        sys.exit(exit_code(lambda: answer.send_bytes(json.dumps(experiment.run(task)).encode()), say))

    def _end(self, answer: Connection) -> None:
        """Answer for a task whose process has gone, and delete its model if no other task needs it. One whose model
        another process trains goes back to the end of the queue."""
        task, process, begin, device = self.running.pop(answer)
        answered = None
        with answer, suppress(EOFError):  # it has ended without a word
            answered = json.loads(answer.recv_bytes())
        process.join()
        code = process.exitcode or 0
        process.close()
        if device is not None:
            self.devices.append(device)
        if code == experiment.BUSY:
            self.waiting.append(task)
            return
        others = (*self.waiting, *(child.task for child in self.running.values()))
        needed = self.keep_models or any(other["model"] == task["model"] for other in others)
        if task["model"] and not code and not needed:
            model = Path(task["folder"]).parent / task["model"]
            with lock(own := model.with_suffix(".lock")) as mine:  # another study may have it, too
                if mine:
                    model.with_suffix(".sha256").unlink(missing_ok=True)  # first: half of one must not be taken for it
                    shutil.rmtree(model, ignore_errors=True)  # it may be a program's
                    own.unlink()  # while it is held; a study would leave hundreds
        reason = (answered or _last_line(Path(task["log"]), begin, code)) if code else ""
        record = None if code else answered
        print(json.dumps({"name": task["name"], "reason": reason, "record": record}), file=self.answers)


def main() -> None:
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # as for a stage
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # nothing else prints among the answers

    def serve() -> None:
        stages.preload()
        gc.freeze()  # the collector does not touch, and so copy, what all have in common
        Server(**json.loads(sys.argv[1]), answers=answers).serve()

    # Without the interpreter's end, like the forked processes: it would collect garbage for 0.5 s, or nanobind, which
    # Triton uses, would report what is frozen as leaks, in 30 lines.
    os._exit(exit_code(serve))


def _last_line(log: Path, begin: int, code: int) -> str:
    """The exit code of a process that gave no reason, and the last line written after byte ``begin``."""
    text = log.read_bytes()[begin:].decode(errors="replace").replace("\r", "\n")
    return printable(f"exit code {code}: {(text.strip().splitlines() or ['no output'])[-1]}")
