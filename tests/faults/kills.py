"""``dvc repro`` and its kin, killed at random moments in every stage, and run again until they finish."""

import math
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from tests.faults.project import ORPHANS, STAGES, Victim, wait_for


class Trial(NamedTuple):
    """One kill. lost: what was lost, changed or left behind, in words."""

    fault: str
    where: str
    lost: tuple[str, ...] = ()


LATE = ("train", "sample", "evaluate")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True)
class Way:
    """A way to run the pipeline. targets: what may be killed: the ``child`` that DVC started, one ``rank`` of it,
    ``dvc`` itself, or the process ``group``, as Ctrl-C and a closed terminal do. changes: to the victim's params."""

    targets: tuple[str, ...]
    stages: tuple[str, ...] = STAGES
    changes: Mapping[str, Any] = field(default_factory=dict)

    def choose(
        self, process: subprocess.Popen[bytes], running: list[psutil.Process], target: str
    ) -> tuple[str, int] | None:
        """The target and its process id, among a stage's ``running`` processes; DVC if there is none of that kind."""
        if process.poll() is not None:
            return None
        child, ranks = running[:1], running[1:]
        if target == "rank" and ranks:
            return target, ranks[-1].pid
        if target in {"rank", "child"} and child:
            return "child", child[0].pid
        return ("group" if target == "group" else "dvc"), process.pid


WAYS = {
    "repro": Way(("child", "dvc", "group")),
    "late": Way(("child", "dvc", "group"), LATE),  # DVC ignores SIGINT: few lives get so far
    "ranks": Way(("rank", "rank", "child", "dvc", "group"), LATE, {"launch": {"processes": 2}}),
}


@dataclass(frozen=True)
class Reference:
    """An uninterrupted run: its results, and the CPU seconds of each stage, whatever else was running."""

    contents: dict[str, Any]
    seconds: dict[str, float]


def uninterrupted(victim: Victim) -> Reference:
    """The reference. Raises RuntimeError if not even this run succeeds."""
    process = victim.begin("dvc", "repro")
    seconds = {}
    for name in STAGES:
        if running := wait_for(lambda name=name: victim.stages().get(name), process):
            seconds[name] = wait_for_cpu(running[0], math.inf)
    if victim.wait(process):
        raise RuntimeError(victim.said()[-2000:])
    if problems := victim.run_problems():
        raise RuntimeError(str(problems))
    return Reference(victim.contents(), seconds)


def wait_for_cpu(process: psutil.Process, seconds: float) -> float:
    """Wait until a process and its children have used that many CPU seconds, or it has ended; return what it used."""
    used = 0.0
    try:
        while used < seconds and process.status() != psutil.STATUS_ZOMBIE:
            family = [process, *process.children(recursive=True)]
            used = max(used, sum(sum(member.cpu_times()[:2]) for member in family))
            time.sleep(0.02)
    except psutil.NoSuchProcess:
        return used
    return used


def life(blank: Victim, folder: Path, way: Way, reference: Reference, generator: random.Random) -> list[Trial]:
    """The trials of one life: a copy of ``blank`` is killed once in each stage, and then allowed to finish.

    What is lost at the end is charged to every kill.
    """
    victim = blank.copy(folder)
    kills: list[Trial] = []
    for stage in way.stages:
        process = victim.begin("dvc", "repro")
        running = wait_for(lambda stage=stage: victim.stages().get(stage), process)
        if not running:
            continue  # it finished or failed: the last attempt shows which
        moment = generator.uniform(0, 1.2) * reference.seconds.get(stage, 0.0)
        if wait_for_cpu(running[0], moment) < moment:
            time.sleep(generator.uniform(0, 0.5))  # DVC is busy with the stage's outs
        if hit := strike(victim, process, way, generator.choice(way.targets), generator.choice(SIGNALS)):
            kills.append(hit)
    code = victim.wait(victim.begin("dvc", "repro"))
    lost = [] if code == 0 else [f"run again: exit code {code}: {victim.said()[-400:]!r}"]
    lost += victim.orphans()
    if not lost:
        lost = victim.lost(reference.contents) + victim.run_problems() + victim.unfinished()
    shutil.rmtree(victim.folder, ignore_errors=True)
    return [hit._replace(lost=(*hit.lost, *lost)) for hit in kills]


def strike(
    victim: Victim, process: subprocess.Popen[bytes], way: Way, target: str, number: signal.Signals
) -> Trial | None:
    """The kill, and what went wrong at once; None: there was nothing to kill."""
    where, processes = next(iter(victim.stages().items()), ("between stages", []))
    struck = way.choose(process, processes, target)
    if struck is None:
        return None
    target, pid = struck
    started = time.monotonic()
    try:
        (os.killpg if target == "group" else os.kill)(pid, number)
    except ProcessLookupError:
        return None
    victim.wait(process)
    seconds = time.monotonic() - started
    problems = victim.orphans()
    if target == "rank" and seconds > ORPHANS:
        problems.append(f"the others ended {seconds:.0f} s after it")
    victim.fix()
    return Trial(f"{number.name} to {target}", where, tuple(problems))
