"""``dvc repro`` and its kin, killed at random moments in every stage, and run again until they are through."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.faults.project import LIMIT, ORPHAN_SECONDS, STAGES, Victim, wait_for
from tests.faults.table import Trial

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
LINE = "was killed by SIGKILL: run the same command again, it resumes"


@dataclass(frozen=True)
class Way:
    """A way to run the pipeline. targets: who may be killed; kinds of process of one running stage."""

    name: str
    targets: tuple[str, ...]
    stages: tuple[str, ...] = STAGES

    def start(self, victim: Victim, attempt: int) -> subprocess.Popen[bytes]:
        return victim.start("dvc", "repro")

    def fetch(self, victim: Victim, attempt: int) -> None:
        """Put the result into the working folder."""


class Repro(Way):
    pass


class Temporary(Way):
    def start(self, victim: Victim, attempt: int) -> subprocess.Popen[bytes]:
        return victim.start("dvc", "exp", "run", "--temp", "--name", f"attempt-{attempt}")

    def fetch(self, victim: Victim, attempt: int) -> None:
        victim.run("dvc", "exp", "apply", f"attempt-{attempt}")


class Queue(Temporary):
    def start(self, victim: Victim, attempt: int) -> subprocess.Popen[bytes]:
        victim.run("dvc", "exp", "run", "--queue", "--name", f"attempt-{attempt}")
        # the worker is a daemon: wait for it and for its end
        wait = 'dvc queue start -j 1 && while dvc queue status | grep -qE "Queued|Running"; do sleep 1; done'
        return victim.start(
            "sh", "-c", f'{wait}; dvc queue status; dvc queue status | grep "attempt-{attempt} .*Success"'
        )


WAYS = {
    "repro": Repro("dvc repro", ("child", "dvc", "group")),
    "temp": Temporary("dvc exp run --temp", ("child", "dvc", "group")),
    "queue": Queue("dvc queue start", ("child", "dvc")),
    "ranks": Repro("dvc repro, 2 ranks", ("rank", "child", "dvc", "group"), ("train",)),
}


@dataclass(frozen=True)
class Reference:
    """An uninterrupted run: what it made, and seconds of each stage, DVC's part included."""

    contents: dict[str, Any]
    seconds: dict[str, float]
    whole: float


def uninterrupted(victim: Victim) -> Reference:
    """Raises RuntimeError when not even this works."""
    process = victim.start("dvc", "repro")
    began: dict[str, float] = {}
    started = time.monotonic()
    for name in STAGES:
        wait_for(lambda name=name: name in victim.stages(), process)
        began[name] = time.monotonic()
    if process.wait(LIMIT):
        raise RuntimeError(victim.said()[-2000:])
    ends = [*list(began.values())[1:], time.monotonic()]
    seconds = {name: end - begin for (name, begin), end in zip(began.items(), ends, strict=True)}
    if problems := victim.run_problems():
        raise RuntimeError(str(problems))
    return Reference(victim.contents(), seconds, ends[-1] - started)


def life(blank: Victim, folder: Path, way: Way, reference: Reference, generator: random.Random) -> list[Trial]:
    """A copy of ``blank`` is killed once in each stage, and then allowed to end: the trials.

    What is lost at the end is charged to the kills in the stage that made it, or to all where no stage did.
    """
    victim = blank.copy(folder)
    kills: list[tuple[str, str, list[str]]] = []  # stage, fault, problems
    recovery: dict[int, float] = {}
    waiting: tuple[int, float] | None = None  # the kill that is being made up for, and since when
    attempt = 0
    for stage in way.stages:
        attempt += 1
        process = way.start(victim, attempt)
        if not wait_for(lambda stage=stage: stage in victim.stages(), process):
            process.wait()
            continue  # through, or it failed: the last attempt tells
        if waiting:
            recovery[waiting[0]] = time.monotonic() - waiting[1]
            waiting = None
        time.sleep(generator.uniform(0, reference.seconds[stage]))
        if hit := strike(victim, process, generator.choice(way.targets), generator.choice(SIGNALS)):
            fault, where, problems = hit
            waiting = (len(kills), time.monotonic())
            kills.append((where, fault, problems))
    attempt += 1
    process = way.start(victim, attempt)
    try:
        code = process.wait(LIMIT)
    except subprocess.TimeoutExpired:
        code = -1
    if waiting:
        recovery[waiting[0]] = time.monotonic() - waiting[1]
    lost = [] if code == 0 else [f"run again: exit code {code}: {victim.said()[-400:]!r}"]
    if victim.ended_within(ORPHAN_SECONDS) is None:
        lost.append("processes were left after the end")
    if not lost:
        way.fetch(victim, attempt)
        lost = victim.lost(reference.contents) + victim.run_problems()
    return [
        Trial(way.name, fault, where, (*problems, *lost), recovery.get(index))
        for index, (where, fault, problems) in enumerate(kills)
    ]


def strike(
    victim: Victim, process: subprocess.Popen[bytes], target: str, number: signal.Signals
) -> tuple[str, str, list[str]] | None:
    """Kill; the fault, the stage that it fell in, and what went wrong at once. None: the run had ended by itself."""
    running = victim.stages()
    where, processes = next(iter(running.items()), ("between stages", []))
    try:
        hit = _hit(process, target, processes, number)
    except (psutil.NoSuchProcess, ProcessLookupError):
        hit = None
    if hit is None:
        process.poll()
        if process.returncode is None:  # DVC is busy with what the stage made
            hit = "dvc"
            try:
                os.kill(process.pid, number)
            except ProcessLookupError:
                return None
        else:
            return None
    fault = f"{number.name} to {hit}"
    try:
        process.wait(LIMIT)
    except subprocess.TimeoutExpired:
        victim.end_all()
        return fault, where, [f"did not end within {LIMIT:.0f} s"]
    problems = []
    if victim.ended_within(ORPHAN_SECONDS) is None:
        problems.append(f"processes were left {ORPHAN_SECONDS:.0f} s after the end")
    said = victim.said()
    if hit == "rank" and number == signal.SIGKILL and said.count(LINE) != 1 and process.returncode:
        problems.append(f"no clear line: {said[-400:]!r}")
    return fault, where, problems


def _hit(
    process: subprocess.Popen[bytes], target: str, processes: list[psutil.Process], number: signal.Signals
) -> str | None:
    """Send the signal; the target, or None where there is no such process at this moment."""
    if not processes:
        return None
    child = processes[0]
    if target == "rank":
        ranks = processes[1:]
        if not ranks:
            return None
        ranks[number % len(ranks)].send_signal(number)
    elif target == "child":
        child.send_signal(number)
    elif target == "dvc":
        child.parent().send_signal(number)
    else:
        os.killpg(os.getpgid(child.pid), number)
    return target
