"""Records made again: whoever has the code of a record can, to the same scores, in a folder and an environment that are
clean. A record is a note of an honest person; one that was invented is found by repeating it."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ddpm.base.errors import UserError
from ddpm.runs.record import Record
from ddpm.study import runner
from ddpm.study.experiments import LOGS
from ddpm.study.ledger import Ledger
from ddpm.study.plan import Experiment
from ddpm.study.pool import Pool


class Finding(NamedTuple):
    """A record that was made again. score: the first that differs, in the record and now; None if all are equal.
    elsewhere: what differs in the environment: in another one, scores may differ by rounding. other_code: the first
    part of the code that differs."""

    name: str
    score: tuple[str, float | None, float | None] | None
    elsewhere: list[str]
    other_code: list[str]


def draw(ledger: Ledger, count: int) -> list[Experiment]:
    """Experiments with a record, at random. Raises UserError if there are none."""
    scored = [one for one in ledger.study.lines() if (run := ledger.records.get(one.name)) and not run.diverged]
    if not scored:
        raise UserError(f"{ledger.study.path}: none of its experiments is finished")
    return random.SystemRandom().sample(scored, min(count, len(scored)))


def repeat(ledger: Ledger, chosen: list[Experiment], at_once: int) -> Iterator[Finding]:
    """Run the experiments again, and compare. Raises UserError with the reason if one fails."""
    devices = runner.gpus(config.device for config in ledger.study.configs.values())
    LOGS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="audit-", dir=LOGS) as folder:
        for entry in Path().iterdir():  # what params name by relative paths; but nothing that was made here
            if entry.name != ".ddpm":
                (Path(folder) / entry.name).symlink_to(entry.absolute())
        with Pool(ledger.experiments.code, at_once, devices, clean=Path(folder)) as pool:
            for experiment in chosen:
                task = ledger.experiments.task(experiment)
                pool.submit(task._replace(record=None, log=Path(folder) / f"{experiment.name}.log"))
            for done in pool.results():
                if not done.record:
                    raise UserError(f"{done.task.name}: {done.reason}")
                yield _compare(ledger, next(one for one in chosen if one.name == done.task.name), done.record)


def _compare(ledger: Ledger, experiment: Experiment, again: Record) -> Finding:
    recorded = ledger.records[experiment.name]
    keys = sorted(recorded.scores.keys() | again.scores.keys())
    pairs = ((key, recorded.scores.get(key), again.scores.get(key)) for key in keys)
    elsewhere = [
        f"{key} {recorded.environment.get(key)}, here {again.environment.get(key)}"
        for key in sorted(recorded.environment.keys() | again.environment.keys())
        if recorded.environment.get(key) != again.environment.get(key)
    ]
    other = ledger.experiments.other_code(experiment, recorded)
    return Finding(experiment.name, next((pair for pair in pairs if pair[1] != pair[2]), None), elsewhere, other[:1])
