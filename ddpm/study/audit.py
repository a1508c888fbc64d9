"""Records made again: whoever has the code of a record can, to the same scores, in a folder and an environment that are
clean. A record is a note of an honest person; one that was invented is found by repeating it."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ddpm.base.errors import UserError
from ddpm.runs.record import Record
from ddpm.study.experiments import Experiments
from ddpm.study.plan import Experiment
from ddpm.study.pool import FOLDER, Pool


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
    devices = {line.experiment.recipe.config.device for line in chosen}
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="audit-", dir=FOLDER) as folder:
        for entry in Path().iterdir():  # what params name by relative paths; but nothing that was made here
            if entry.name != ".ddpm":
                (Path(folder) / entry.name).symlink_to(entry.absolute())
        code = chosen[0].experiments.code
        with Pool(code, slots, devices, clean=Path(folder)) as pool:
            for number, line in enumerate(chosen):
                task = line.experiments.task(line.experiment)
                log = line.experiments.log(f"audit-{task.name}")
                pool.submit(task._replace(name=str(number), record=None, log=log))
            for done in pool.results():
                experiments, experiment, recorded = chosen[int(done.task.name)]
                if not (again := done.record):
                    raise UserError(f"{experiment.name}: {done.reason}")
                score = next(iter(_differences(recorded.scores, again.scores)), None)
                there = _differences(recorded.environment, again.environment)
                elsewhere = [f"{key} {was}, here {now}" for key, was, now in there]
                yield Finding(experiment.name, score, elsewhere, experiments.other_code(experiment, recorded)[:1])


def _differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """The keys with other values, and these."""
    pairs = ((key, one.get(key), other.get(key)) for key in sorted(one.keys() | other.keys()))
    return [pair for pair in pairs if pair[1] != pair[2]]
