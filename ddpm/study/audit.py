"""Records made again: whoever has the code of a record can, to the same scores, in a folder and an environment that are
clean. A record is a note of an honest person; one that was invented is found by repeating it."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from ddpm.base.errors import UserError
from ddpm.runs.record import Record
from ddpm.study import runner
from ddpm.study.experiments import LOGS, Experiments
from ddpm.study.plan import Experiment
from ddpm.study.pool import Pool


class Line(NamedTuple):
    """An experiment of a study or an attempt, and its record."""

    experiments: Experiments
    experiment: Experiment
    record: Record


class Finding(NamedTuple):
    """A record that was made again. score: the first that differs, in the record and now; None if all are equal.
    elsewhere: what differs in the environment: in another one, scores may differ by rounding. other_code: the first
    part of the code that differs."""

    name: str
    score: tuple[str, float | None, float | None] | None
    elsewhere: list[str]
    other_code: list[str]


def repeat(lines: Collection[Line], count: int, slots: int | None) -> Iterator[Finding]:
    """Run ``count`` of the experiments again, drawn at random, and compare. Raises UserError if there are none, or with
    the reason if one fails."""
    scored = [line for line in lines if not line.record.diverged]
    if not scored:
        raise UserError("none of its experiments is finished")
    chosen = random.SystemRandom().sample(scored, min(count, len(scored)))
    devices = [line.experiment.config.device for line in chosen]
    LOGS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="audit-", dir=LOGS) as folder:
        for entry in Path().iterdir():  # what params name by relative paths; but nothing that was made here
            if entry.name != ".ddpm":
                (Path(folder) / entry.name).symlink_to(entry.absolute())
        code = chosen[0].experiments.code
        with Pool(code, runner.slots(slots, devices), runner.gpus(devices), clean=Path(folder)) as pool:
            for number, line in enumerate(chosen):
                task = line.experiments.task(line.experiment)
                pool.submit(task._replace(name=str(number), record=None, log=Path(folder) / f"{number}.log"))
            for done in pool.results():
                line = chosen[int(done.task.name)]
                if not done.record:
                    raise UserError(f"{line.experiment.name}: {done.reason}")
                yield _compare(line, done.record)


def _compare(line: Line, again: Record) -> Finding:
    experiments, experiment, recorded = line
    keys = sorted(recorded.scores.keys() | again.scores.keys())
    pairs = ((key, recorded.scores.get(key), again.scores.get(key)) for key in keys)
    elsewhere = [
        f"{key} {recorded.environment.get(key)}, here {again.environment.get(key)}"
        for key in sorted(recorded.environment.keys() | again.environment.keys())
        if recorded.environment.get(key) != again.environment.get(key)
    ]
    other = experiments.other_code(experiment, recorded)
    return Finding(experiment.name, next((pair for pair in pairs if pair[1] != pair[2]), None), elsewhere, other[:1])
