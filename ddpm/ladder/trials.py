"""A search's trials, ladders/NAME/trials.jsonl: what was tried, and what one run of it scored. They are not evidence.

The file is in git, as the log is (``merge=union``), and its order means nothing. Each process that searches adds lines
and reads those of others.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any, Literal, NamedTuple

from ddpm.base import files, sections
from ddpm.base.errors import UserError
from ddpm.base.locks import lock
from ddpm.base.sections import Section, Seed
from ddpm.ladder.climb import LOCKS
from ddpm.ladder.log import LENGTH, Key
from ddpm.ladder.terms import MEMORISATION, Changes, Contest
from ddpm.runs.alike import group_by
from ddpm.runs.record import Amount, Count, Record, Score, Values
from ddpm.study import plan
from ddpm.verdicts import metrics

NAME = "trials.jsonl"


class Trial(Section):
    """One run. search: the number of the search that made it. of: ``find_identity``. changes: of the base. score: None
    if it diverged. guards: the guarded metrics; ``memorisation`` is 1 if it copies train images. seconds: that it
    took."""

    evidence: Literal[False] = False
    search: Count
    of: Key
    seed: Seed
    changes: Values
    cost: Amount
    score: Score | None
    guards: dict[str, Score]
    seconds: Amount

    @property
    def key(self) -> str:
        """Equal for trials of the same recipe."""
        return files.digest(dict(self.changes))


class Candidate(NamedTuple):
    """A recipe with its trials. score: their mean. loss: what a search makes small. excess: by how much it breaks
    guards and misses the target, all together. fails: the names of those."""

    changes: Changes
    trials: Sequence[Trial]
    score: float
    loss: float
    excess: float
    fails: Sequence[str]

    @property
    def is_allowed(self) -> bool:
        """Whether it keeps the guards, reaches the target, and never diverged."""
        return math.isfinite(self.score) and self.excess <= 0


def find_identity(contest: Contest) -> str:
    """Digest of what trials that are compared have in common: the base, the scores, and what a cost is. Until the first
    attempt a ladder's file may change."""
    terms = contest.terms
    return files.digest([contest.identity["base"], terms.primary, terms.guards, terms.cost])[:LENGTH]


def read(contest: Contest) -> list[Trial]:
    """The trials so far that the ladder's file, as it is, can use. Raises UserError for a line that is none."""
    path, trials, of = contest.folder / NAME, [], find_identity(contest)
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines() if path.exists() else (), 1):
        source = f"{path}: line {number}"
        try:
            trials.append(sections.parse(json.loads(text), source, Trial))
        except (RecursionError, ValueError) as error:
            raise UserError(f"{source}: not a trial: remove the line; trials are not evidence") from error
    return [trial for trial in trials if trial.of == of]


def params(contest: Contest, changes: Changes, seed: int) -> dict[str, Any]:
    """The content of a trial's params.yaml."""
    return plan.apply_overrides(contest.values, {**changes, "seed": seed}, "a trial")


def add(contest: Contest, trial: Trial) -> None:
    """Append a trial. Raises UserError if the disk is full; then the file is as it was."""
    path = contest.folder / NAME
    with lock(LOCKS / f"{contest.name}-trials.lock", math.inf):
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        with files.atomic_path(path) as temporary:
            temporary.write_text(f"{before}{json.dumps(trial.model_dump(mode='json'))}\n", encoding="utf-8")


def guards(contest: Contest, run: Record) -> dict[str, float]:
    """What a ladder's guards look at, of a run."""
    scores = run.scores | {MEMORISATION: float(bool(metrics.find_copies(run.scores)))}
    return {name: scores[name] for name in contest.terms.guards}


def candidates(contest: Contest, trials: Sequence[Trial], champion: Changes) -> list[Candidate]:
    """The recipes that break no guard, the best first: by their mean score or, for kind ``target``, by cost."""
    usual = find_usual(trials, champion)
    judged = (judge(contest, runs, usual) for runs in group_by(trials, lambda trial: trial.key).values())
    return sorted((one for one in judged if one.is_allowed), key=lambda one: one.loss)


def find_usual(trials: Sequence[Trial], champion: Changes) -> dict[str, float]:
    """The champion's guarded metrics; empty if it was not tried."""
    key = files.digest(champion)
    return means([trial for trial in trials if trial.key == key])


def judge(contest: Contest, runs: Sequence[Trial], usual: dict[str, float]) -> Candidate:
    """A recipe's trials together. usual: the champion's guarded metrics; empty if they are not known."""
    terms, of_guards, diverged = contest.terms, means(runs), -contest.gain(math.inf)
    scores = [diverged if trial.score is None else trial.score for trial in runs]
    excess = {MEMORISATION: of_guards.pop(MEMORISATION, 0.0)}
    if terms.target is not None:  # by each run: the cheapest whose mean does would miss it on half of all fresh seeds
        excess["target"] = math.fsum(max(-contest.gain(score - terms.target), 0.0) for score in scores)
    for name in of_guards.keys() & usual.keys():
        margin = metrics.margin(name, usual[name], contest.config.compare)
        excess[name] = metrics.gain(name, usual[name] - of_guards[name]) - margin
    loss = runs[0].cost if terms.kind == "target" else -contest.gain(fmean(scores))
    fails = {name: by for name, by in excess.items() if by > 0}
    return Candidate(dict(runs[0].changes), runs, fmean(scores), loss, math.fsum(fails.values()), sorted(fails))


def means(runs: Sequence[Trial]) -> dict[str, float]:
    """The mean of each guarded metric."""
    scored = [trial for trial in runs if trial.score is not None]
    return {name: fmean(trial.guards[name] for trial in scored) for name in (scored[0].guards if scored else ())}
