"""What a ladder's log says: attempts, rungs and the champion.

The log is read with what it rests on. It has all lines that the last commit and the upstream branch have; each end is
the one that the attempt's records give; and each folder with records belongs to an attempt. So an attempt cannot be
forgotten by cutting the file, and an end cannot be made up.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ddpm.base.errors import UserError
from ddpm.base.locks import lock
from ddpm.ladder import evidence, log, outcome
from ddpm.ladder.log import BASE, End, Outcome, Try
from ddpm.ladder.outcome import Hurdle
from ddpm.ladder.pairs import Runs
from ddpm.ladder.terms import CHALLENGER, CHAMPION, Changes, Contest
from ddpm.verdicts import metrics
from ddpm.verdicts.statistics import Array

LOCKS = Path(".ddpm/ladders")  # next to the log, git would see them


@dataclass
class Attempt:
    """An attempt, or a challenge."""

    key: str
    begin: Try
    number: int  # from 1, in the order of the log; a challenge has that of the rung
    needed: float  # the e-value
    end: End | None = None
    outcome: Outcome | None = None
    reason: str = ""
    rung: int | None = None  # its number if it became one
    stands: bool = False  # whether it still is
    gaussian: float | None = None  # what a Gaussian of the train images scores, if known


@dataclass
class Climb:
    """The attempts of a ladder, and what came of them. lines: of its log, by digest."""

    contest: Contest
    lines: dict[str, Try | End]
    attempts: list[Attempt] = field(default_factory=list)  # without challenges
    challenges: list[Attempt] = field(default_factory=list)
    rungs: list[Attempt] = field(default_factory=list)
    cache: dict[tuple[str, str], Runs] = field(default_factory=dict)  # by attempt and commit: each record is read once

    @property
    def tip(self) -> str:
        """The digest of the last line."""
        return next(reversed(self.lines), BASE)

    @property
    def champion(self) -> Attempt | None:
        """The highest rung that stands; None is the base."""
        return next((rung for rung in reversed(self.rungs) if rung.stands), None)

    @property
    def next_needed(self) -> float:
        """The e-value that the next attempt needs."""
        standing = sum(rung.stands for rung in self.rungs)
        return evidence.threshold(len(self.attempts) + 1, standing, self.contest.terms.error)

    def find(self, key: str) -> Attempt:
        """The attempt or challenge with that key. Raises UserError if there is none."""
        for attempt in (*self.attempts, *self.challenges):
            if attempt.key == key:
                return attempt
        raise UserError(f"{self.contest.log}: no attempt {key}: restore the file from git")

    def changes(self, key: str) -> dict[str, Any]:
        """All changes of the base up to a rung; of BASE none."""
        if key == BASE:
            return {}
        begin = self.find(key).begin
        return {**self.changes(begin.on), **begin.changes}

    def gains(self, end: End) -> Array:
        """What the challenger is better by, on each seed: (n,)."""
        return outcome.measure_gains(self.contest, end)

    def first_seed(self, begin: Try) -> int:
        """The first of an attempt's consecutive seeds."""
        return begin.seed if begin.seed is not None else self.contest.seed(begin.changes, begin.number)

    def log_e(self, end: End) -> float:
        """The logarithm of an attempt's e-value."""
        return float(evidence.log_e(self.gains(end))[-1]) if end.challenger else 0.0

    def runs(self, attempt: Attempt, commit: str = "") -> Runs:
        """The runs of an attempt. commit: whose code makes more of them."""
        if (key := (attempt.key, commit)) not in self.cache:
            line, champion = attempt.begin, self.changes(attempt.begin.on)
            arms: dict[str, Changes] = {CHAMPION: champion} if self.contest.terms.kind == "score" else {}
            arms[CHALLENGER] = {**champion, **line.changes}
            self.cache[key] = Runs(self.contest, attempt.key, self.first_seed(line), arms, commit)
        return self.cache[key]

    def runs_of_base(self, commit: str = "") -> Runs:
        """The base's runs of its own, where it does not run with a challenger."""
        return Runs(self.contest, "base", self.contest.seed({}, 0), {CHAMPION: {}}, commit)

    def judge(self, attempt: Attempt, runs: Runs) -> tuple[End, bool]:
        """How the attempt ends by its runs so far, and whether they decide: ``outcome.judge``."""
        challenges, error = attempt.begin.challenges, self.contest.terms.error
        own = self.find(challenges).end if challenges else None
        number = attempt.begin.number
        again = [one for one in self.challenges if one.begin.challenges == challenges and one.begin.number < number]
        hurdle = Hurdle(
            needed=attempt.begin.needed or attempt.needed,
            error=error / 2**number if own else error,
            usual=self._measure_usual(attempt.begin.on),
            rung=self.gains(own) if own else np.zeros(0),
            challenges=np.concatenate([np.zeros(0), *(self.gains(one.end) for one in again if own and one.end)]),
        )
        return outcome.judge(
            self.contest, attempt.key, hurdle, runs.leading_records(CHAMPION), runs.leading_records(CHALLENGER)
        )

    def _measure_usual(self, on: str) -> Mapping[str, float]:
        """The mean of each guarded metric of the rung ``on``, where it does not run with the challenger."""
        terms = self.contest.terms
        if terms.kind == "score" or not terms.guard_metrics:
            return {}
        if on != BASE and (end := self.find(on).end):
            return end.guards
        records = (base := self.runs_of_base()).leading_records(CHAMPION)[: terms.seeds.fewest]
        if len(records) < terms.seeds.fewest:
            missing = base.experiments.path(base.planned[len(records)].name)
            raise UserError(f"{missing}: no such record of the base, with which guards compare: restore it from git")
        return outcome.means(terms.guard_metrics, records)

    def add(self, key: str, line: Try | End) -> None:
        """Take the next line into account. Raises UserError if it refers to none before it, or if it is an end that
        the attempt's records do not give."""
        if isinstance(line, Try):
            self.contest.check_same(line.terms, line.base)
            if line.challenges:
                again = Attempt(key, line, self.find(line.challenges).number, 1 / self.contest.terms.error)
                self.challenges.append(again)
            else:
                self.attempts.append(Attempt(key, line, len(self.attempts) + 1, self.next_needed))
            return
        attempt = self.find(line.of)
        if attempt.end is not None:  # two machines shared it
            return
        scores = [run.scores for run in self._check_end(line).leading_records(CHALLENGER)]
        attempt.gaussian = metrics.gaussian(scores, self.contest.terms.primary)
        attempt.end, attempt.outcome, attempt.reason = line, line.outcome, line.reason
        if attempt.begin.challenges:
            rung = self.find(attempt.begin.challenges)
            rung.stands &= line.outcome != "refused"
        elif line.outcome == "accepted":
            champion = self.champion
            if attempt.begin.on != (champion.key if champion else BASE):
                attempt.outcome, attempt.reason = "undecided", "the champion is another one by now: try it again"
            elif self.log_e(line) < math.log(attempt.needed) - 1e-9:  # an attempt elsewhere came before it
                attempt.outcome, attempt.reason = "undecided", "not enough at its place in the merged log: try it again"
            else:
                self.rungs.append(attempt)
                attempt.rung, attempt.stands = len(self.rungs), True

    def _check_end(self, end: End) -> Runs:
        """The attempt's runs. Raises UserError unless they give this end."""
        attempt = self.find(end.of)
        runs = self.runs(attempt)
        own, decides = self.judge(attempt, runs)
        n, seedless = len(end.challenger), attempt.begin.seed is None
        same = (own.champion[:n], own.challenger[:n]) == (end.champion, end.challenger)
        if not (seedless and end.outcome == "refused"):  # the guards of the first ladders, without seeds, refused more
            same &= decides and (own.outcome, len(own.challenger), own.guards) == (end.outcome, n, end.guards)
        if not same:
            gave = f"{own.outcome} after {len(own.challenger)} seeds" if decides else "no end"
            raise UserError(
                f"{self.contest.log}: the end of {attempt.begin.entry}: {end.outcome} after {n} seeds, and the "
                f"records in {runs.experiments.folder} give {gave}: restore both from git"
            )
        return runs


def read(contest: Contest) -> Climb:
    """The climb so far. Raises UserError if the log was changed by hand, lacks lines that git has, or does not match
    the records; or if the ladder is not the one it is of."""
    climb = Climb(contest, log.read(contest))
    for path in sorted(contest.attempts.glob("*/runs/*.json")):
        if path.parts[-3] not in {*climb.lines, "base"}:
            raise UserError(
                f"{path}: the run of an attempt that {contest.log} does not have: restore the file from git, or `git "
                "pull`; an attempt that began stays"
            )
    for key, line in climb.lines.items():
        climb.add(key, line)
    return climb


@contextmanager
def hold(contest: Contest) -> Iterator[Climb]:
    """The climb so far; no other process can append to the log meanwhile."""
    contest.folder.mkdir(parents=True, exist_ok=True)
    with lock(LOCKS / f"{contest.name}.lock", math.inf):
        yield read(contest)


def append(climb: Climb, line: Try | End) -> Climb:
    """Add a line to the log of a climb that ``hold`` yielded, with its ``before``, and return what the log then says.
    An end is left out if the attempt has one."""
    if isinstance(line, Try) or climb.find(line.of).end is None:
        log.append(climb.contest, line.model_copy(update={"before": climb.tip}))
    return read(climb.contest)
