"""Two at once, and four: no process corrupts another's work; one waits, or names the process that is in the way."""

from __future__ import annotations

import random
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from tests.faults.project import Victim, stage
from tests.faults.table import Trial

TIMES = 3
SET_UP = "from ddpm.params import file; from ddpm.tracking import tracker; print(tracker.sync(file.read()))"


def trials(blank: Victim, scratch: Path, generator: random.Random) -> Iterator[Trial]:
    whole = blank.copy(scratch / "whole-concurrency")
    whole.run("dvc", "repro", tracked=False)
    wanted = whole.contents()
    for _ in range(TIMES):
        yield two_repros(blank, scratch, wanted, generator)
        yield two_experiments(whole, scratch)
        yield two_trainings(whole, scratch, wanted)
        yield four_set_ups(whole, scratch)
    shutil.rmtree(whole.folder)


def together(victim: Victim, commands: list[tuple[str, ...]], apart: float = 0.0) -> list[tuple[int, str, int]]:
    """Exit code, output and process id of each."""
    logs = [victim.folder.parent / f"together-{number}.log" for number in range(len(commands))]
    processes = []
    for command, log in zip(commands, logs, strict=True):
        processes.append(victim.start(*command, log=log))
        time.sleep(apart)
    return [
        (victim.wait(process), log.read_text(errors="replace"), process.pid)
        for process, log in zip(processes, logs, strict=True)
    ]


def two_repros(blank: Victim, scratch: Path, wanted: dict[str, object], generator: random.Random) -> Trial:
    victim = blank.copy(scratch / "two")
    ends = together(victim, [("dvc", "repro")] * 2, generator.uniform(0, 15))
    lost = []
    for code, said, _ in ends:
        named = [pid for pid in re.findall(r"PID (\d+)", said) if int(pid) in {pid for *_, pid in ends}]
        if code and not named and "Unable to acquire lock" not in said:
            lost.append(f"neither done nor told by whom it was refused: {said[-400:]!r}")
    started = time.monotonic()
    code, said = victim.call("dvc", "repro")
    lost += [f"run again: exit code {code}: {said[-400:]!r}"] if code else []
    lost += [] if code else victim.lost(wanted) + victim.run_problems()
    seconds = time.monotonic() - started
    shutil.rmtree(victim.folder)
    return Trial("at once", "two dvc repro", "from nothing", tuple(lost), seconds)


def two_experiments(whole: Victim, scratch: Path) -> Trial:
    victim = whole.copy(scratch / "two")
    commands = [("dvc", "exp", "run", "--temp", "-n", f"seed-{seed}", "-S", f"seed={seed}") for seed in (1, 2)]
    lost = [f"exit code {code}: {said[-600:]!r}" for code, said, _ in together(victim, commands) if code]
    if not lost:
        for seed in (1, 2):
            victim.run("dvc", "exp", "apply", f"seed-{seed}")
            lost += victim.run_problems(runs=2)
    shutil.rmtree(victim.folder)
    return Trial("at once", "two experiments", "dvc exp run --temp", tuple(lost))


def two_trainings(whole: Victim, scratch: Path, wanted: dict[str, object]) -> Trial:
    victim = whole.copy(scratch / "two")
    shutil.rmtree(victim.folder / "data/model")
    ends = together(victim, [tuple(stage("train"))] * 2)
    codes = sorted(code for code, *_ in ends)
    lost = []
    if codes == [0, 2]:
        (winner,) = (pid for code, _, pid in ends if not code)
        (refused,) = (said for code, said, _ in ends if code)
        if f"already being trained by process {winner}" not in refused:
            lost.append(f"not told by whom: {refused[-300:]!r}")
    elif codes != [0, 0]:  # one after the other
        lost.append(f"exit codes {codes}: {[said[-300:] for _, said, _ in ends]}")
    code, said = victim.call("dvc", "repro")
    lost += victim.lost(wanted) if code == 0 else [f"run again: {said[-400:]!r}"]
    shutil.rmtree(victim.folder)
    return Trial("at once", "two trainings of one experiment", "train", tuple(lost))


def four_set_ups(whole: Victim, scratch: Path) -> Trial:
    victim = whole.copy(scratch / "four")
    ends = together(victim, [("python", "-c", SET_UP)] * 4)
    said = {said.strip() for _, said, _ in ends}
    lost = [] if len(said) == 1 and not any(code for code, *_ in ends) else [f"answers: {sorted(said)}"]
    lost = lost or victim.run_problems()
    shutil.rmtree(victim.folder)
    return Trial("at once", "four first MLflow set-ups", "evaluate", tuple(lost))
