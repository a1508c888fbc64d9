"""Records made again: whoever has the code of a record can, to the same scores, in a folder and an environment that are
clean. A record is a note of an honest person; one that was invented is found by repeating it."""

import math
import random
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ddpm.arms import revision
from ddpm.arms.pool import FOLDER
from ddpm.arms.question import Question
from ddpm.base.errors import UserError
from ddpm.base.files import flatten
from ddpm.referee import metrics
from ddpm.runs.record import Record

OTHER_TORCH, BFLOAT16, FLOAT32 = 0.08, 0.05, 0.0001  # what rounding changes: the table of docs/reproducible.md
KERNELS = {"kernels", "processor", "ranks", "threads", "training_precision"}  # in which environments round differently
ROUNDED = ("scores.", "curve.")  # what that changes
STRAY = 2  # samples that rounding may move across the border of a metric that counts them; others are near 0
APART = {"name", "params", "environment", "code", "plan", "revision"}  # compared otherwise, or not at all

Difference = tuple[str, Any, Any]  # a key, its value in the record, and its value now


class Finding(NamedTuple):
    """A record that was made again. difference: the first, or the first that rounding cannot explain; None if all but
    the times is equal. rounding: whether that explains all differences. elsewhere: in what the environment differs.
    other_code: the first part of the code that differs, and the first that is not what the record's commit has."""

    name: str
    difference: Difference | None
    rounding: bool
    elsewhere: list[str]
    other_code: list[str]


def repeat(questions: Iterable[Question], count: int, slots: int | None) -> Iterator[Finding]:
    """Make ``count`` of the rows again, those that diverged first and the others drawn at random, with code that is
    exported again, and compare. Raises UserError if there are none, or with the reason if one fails."""
    done = [(one, run, one.records[run.name]) for one in questions for run in one.planned if run.name in one.records]
    if not done:
        raise UserError("none of its runs is finished, so there is nothing to repeat")
    mixed = random.SystemRandom().sample(done, len(done))
    # a training that is said to diverge decides what others are compared with, and has no scores that look wrong
    chosen = sorted(mixed, key=lambda line: not line[2].diverged)[:count]
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="audit-", dir=FOLDER) as folder:
        for entry in Path().iterdir():  # what params name by relative paths; but nothing that was made here
            if entry.name != ".ddpm":
                (Path(folder) / entry.name).symlink_to(entry.absolute())
        maker = (asking := chosen[0][0].maker).at(asking.commit, Path(folder))
        tasks = []
        for number, (question, run, _) in enumerate(chosen):
            log = question.log(f"audit-{run.name}")
            tasks.append(question.task(run)._replace(name=str(number), log=log, rows=None, picture=None, keep=None))
        with maker.pool([run for _, run, _ in chosen], slots) as pool:
            for made in pool.run(tasks):
                _, run, recorded = chosen[int(made.task.name)]
                if not made.record:
                    raise UserError(f"{run.name}: {made.reason}")
                other = maker.other_code(run, recorded)[:1]
                if recorded.revision:
                    commit = revision.find(recorded.revision)
                    of_commit = maker.at(commit, Path(folder)).other_code(run, recorded)
                    other += [f"{path}, which its commit {commit[:10]} does not have so" for path in of_commit[:1]]
                again = made.record.model_copy(update=dict(made.task.about))
                yield compare(run.name, recorded, again)._replace(other_code=other)


def compare(name: str, recorded: Record, again: Record) -> Finding:
    """What differs in all but the times. again: with the fields that a study sets."""
    there = _differences(recorded.environment, again.environment)
    differing = _differences(_facts(recorded), _facts(again))
    share, odd = 0.0, {key for key, *_ in there}
    if "torch" in odd:
        share = OTHER_TORCH
    elif odd & KERNELS:
        share = BFLOAT16 if "bfloat16" in (recorded.precision, again.precision) else FLOAT32
    slack = STRAY / again.fingerprint.comparable.get("samples", math.inf)
    beyond = [one for one in differing if not (share and _is_rounding(*one, share, slack))]
    elsewhere = [f"{key} {was}, here {now}" for key, was, now in there]
    return Finding(name, next(iter(beyond or differing), None), bool(differing and not beyond), elsewhere, [])


def _facts(run: Record) -> Mapping[str, Any]:
    """All that a run has again, flat."""
    facts = {name: value for name, value in run.facts.items() if name not in APART}
    return flatten(facts | {"diverged": bool(run.diverged)})


def _is_rounding(key: str, was: Any, now: Any, share: float, slack: float) -> bool:
    """Whether two values of a record may be the same but for rounding."""
    if not key.startswith(ROUNDED) or was is None or now is None:
        return key == "samples"
    absolute = 0.0 if metrics.kind(key) in metrics.HEADLINE else slack
    one, other = (np.array(value, float) for value in (was, now))  # an unknown cell is nan
    return one.shape == other.shape and np.allclose(one, other, rtol=share, atol=absolute, equal_nan=True)


def _differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[Difference]:
    """The keys with other values, and these."""
    pairs = ((key, one.get(key), other.get(key)) for key in sorted(one.keys() | other.keys()))
    return [pair for pair in pairs if pair[1] != pair[2]]
