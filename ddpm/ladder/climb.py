"""A ladder's log, and what it says: attempts, rungs and the champion.

ladders/NAME/log.jsonl only grows, and is in git. Each line has the digest of a line before it, so one that was changed,
removed or moved is noticed. Where two machines appended at the same time, git keeps both lines (``merge=union``): the
log then forks, and every reader puts the branches into the same order, that of their digests. Nothing that depends on
the order is written down: an attempt's number, the e-value that it needs and whether it is a rung follow from the
lines.

The log is read with what it rests on. It has all lines that the last commit and the upstream branch have; the scores of
each end are those of the attempt's records; and each folder with records belongs to an attempt. So an attempt cannot be
forgotten by cutting the file, and an end cannot be made up without its runs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, Literal

import numpy as np
import pygit2
from pydantic import Field

from ddpm.base import files, sections
from ddpm.base.errors import UserError
from ddpm.base.locks import lock
from ddpm.base.sections import Section, Seed
from ddpm.ladder import evidence
from ddpm.ladder.terms import CHALLENGER, CHAMPION, Contest
from ddpm.runs import alike, library, record
from ddpm.runs.record import Amount, Count, Line, Name, Record, Score, Values
from ddpm.verdicts import metrics

LENGTH = 16  # digits of a digest
LOCKS = Path(".ddpm/ladders")  # next to the log, git would see them
Key = Annotated[str, Field(pattern=f"^([0-9a-f]{{{LENGTH}}})?$")]
Outcome = Literal["accepted", "refused", "undecided"]
BASE = ""  # in place of a digest: of the rung before the first, and of the line before the first


class Try(Section):
    """An attempt begins, and its share of the error is spent.

    before: the digest of a line before it, BASE of the first. terms, base: ``Contest.identity``. entry: its name.
    changes: of the rung ``on``, the champion. challenges: the attempt that it repeats. seed: the first of its
    consecutive seeds, drawn as it begins: seeds that can be known before it could be tried in private.
    """

    before: Key = BASE
    terms: Key
    base: Key
    entry: Name
    changes: Values
    on: Key
    number: Count
    cost: Amount
    challenges: Key | None = None
    seed: Seed | None = None  # the first lines of the first ladders have none: ``Contest.seed`` is theirs


class End(Section):
    """The attempt ``of`` has ended. champion, challenger: scores by seed; of kind ``target`` the champion has none."""

    before: Key = BASE
    of: Key
    outcome: Outcome
    reason: Line
    champion: tuple[Score, ...]
    challenger: tuple[Score, ...]
    guards: dict[str, Score] = Field(default={})


@dataclass
class Attempt:
    """number: from 1, in the order of the log; a challenge has that of the rung. needed: the e-value. rung: its number
    if it became one. stands: whether that still holds. gaussian: what a Gaussian of the train images scores, if known.
    """

    key: str
    begin: Try
    number: int
    needed: float
    end: End | None = None
    outcome: Outcome | None = None
    reason: str = ""
    rung: int | None = None
    stands: bool = False
    gaussian: float | None = None


@dataclass
class Climb:
    """attempts: without challenges. tip: the digest of the last line. is_committed: whether the last commit has every
    line."""

    contest: Contest
    attempts: list[Attempt] = field(default_factory=list)
    challenges: list[Attempt] = field(default_factory=list)
    rungs: list[Attempt] = field(default_factory=list)
    tip: str = BASE
    is_committed: bool = True

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

    def gains(self, end: End) -> np.ndarray[Any, np.dtype[np.float64]]:
        """What the challenger is better by, on each seed: (n,)."""
        terms = self.contest.terms
        before = np.array(end.champion) if terms.kind == "score" else np.full(len(end.challenger), terms.target or 0.0)
        return np.array([self.contest.gain(gap) for gap in np.array(end.challenger) - before])

    def first_seed(self, begin: Try) -> int:
        """The first of an attempt's consecutive seeds."""
        return begin.seed if begin.seed is not None else self.contest.seed(begin.changes, begin.number)

    def log_e(self, end: End) -> float:
        """The logarithm of an attempt's e-value."""
        return float(evidence.log_e(self.gains(end))[-1]) if end.challenger else 0.0

    def add(self, key: str, line: Try | End) -> None:
        """Take the next line into account. Raises UserError if it refers to none before it."""
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
        self._check_records(attempt, line)
        attempt.end, attempt.outcome, attempt.reason = line, line.outcome, line.reason
        if attempt.begin.challenges:
            rung = self.find(attempt.begin.challenges)
            rung.stands &= line.outcome != "refused"
        elif line.outcome == "accepted":
            champion = self.champion
            if attempt.begin.on != (champion.key if champion else BASE):
                attempt.outcome, attempt.reason = "undecided", "another attempt became the champion first: try it again"
            elif self.log_e(line) < math.log(attempt.needed) - 1e-9:  # an attempt elsewhere came before it
                attempt.outcome, attempt.reason = "undecided", "not enough at its place in the merged log: try it again"
            else:
                self.rungs.append(attempt)
                attempt.rung, attempt.stands = len(self.rungs), True

    def _check_records(self, attempt: Attempt, end: End) -> None:
        """Raises UserError unless the attempt's records have the scores of its end."""
        contest, terms, begin = self.contest, self.contest.terms, attempt.begin
        before = self.changes(begin.on)
        arms = {CHAMPION: (before, end.champion), CHALLENGER: ({**before, **begin.changes}, end.challenger)}
        runs: list[Record] = []
        for arm, (changes, scores) in arms.items():
            params = contest.params(changes).flat()
            paths = [contest.record(attempt.key, arm, self.first_seed(begin) + n) for n in range(len(scores))]
            if missing := [path for path in paths if not path.exists()]:
                raise UserError(
                    f"{contest.log}: the end of {begin.entry}: no record {missing[0]}: restore it from git; an end "
                    "without its runs does not count"
                )
            runs = [record.read(path) for path in paths]
            for path, run, score in zip(paths, runs, scores, strict=True):
                if run.scores.get(terms.primary) != score or alike.differences(run, params):
                    raise UserError(f"{path}: not what the end of {begin.entry} in {contest.log} says: restore both")
        if any(not math.isclose(means(terms.guarded, runs)[name], mean) for name, mean in end.guards.items()):
            raise UserError(f"{contest.log}: the end of {begin.entry}: guards: not those of its records: restore both")
        attempt.gaussian = metrics.gaussian([run.scores for run in runs], terms.primary)


def means(names: Sequence[str], records: Sequence[Record]) -> dict[str, float]:
    """The mean of each score."""
    return {name: fmean(record.scores[name] for record in records) for name in names if records}


def read(contest: Contest) -> Climb:
    """The climb so far. Raises UserError if the log was changed by hand, lacks lines that git has, or does not match
    the records; or if the ladder is not the one it is of."""
    climb, lines = Climb(contest), dict[str, Try | End]()
    after: dict[str, list[str]] = {BASE: []}
    texts = contest.log.read_text(encoding="utf-8").splitlines() if contest.log.exists() else []
    for revision, committed in _committed(contest):
        if not committed <= set(texts):
            raise UserError(
                f"{contest.log}: lacks lines that {revision} has: `git checkout HEAD -- {contest.log}` or `git pull`; "
                "an attempt that began stays"
            )
        climb.is_committed &= revision != "HEAD" or committed >= set(texts)
    for number, text in enumerate(texts, 1):
        source, key = f"{contest.log}: line {number}", _key(text)
        try:
            value = json.loads(text)
            line = sections.parse(value, source, End) if "of" in value else sections.parse(value, source, Try)
        except (RecursionError, TypeError, ValueError) as error:
            raise UserError(f"{source}: not a line of a ladder's log: restore the file from git") from error
        if line.before not in after or (isinstance(line, End) and line.of not in lines):
            raise UserError(
                f"{source}: does not continue the lines before it: some were changed, removed or moved; restore the "
                "file from git"
            )
        if key not in lines:
            lines[key], after[key] = line, []
            after[line.before].append(key)
    for path in sorted(contest.attempts.glob("*/runs/*.json")):
        if path.parts[-3] not in {*lines, "base"}:
            raise UserError(
                f"{path}: the run of an attempt that {contest.log} does not have: restore the file from git, or `git "
                "pull`; an attempt that began stays"
            )
    waiting = sorted(after[BASE], reverse=True)
    while waiting:  # depth first: a branch is read to its end
        climb.tip = waiting.pop()
        climb.add(climb.tip, lines[climb.tip])
        waiting += sorted(after[climb.tip], reverse=True)
    return climb


def _committed(contest: Contest) -> Iterator[tuple[str, set[str]]]:
    """Name and lines of the log in the last commit, and in the upstream of its branch."""
    if pygit2.discover_repository(".") is None:
        return
    git = library.repository()
    commits = {} if git.head_is_unborn else {"HEAD": git.head}
    if commits and not git.head_is_detached and (upstream := git.branches.local[git.head.shorthand].upstream):
        commits[upstream.shorthand] = upstream
    for name, reference in commits.items():
        try:
            blob = reference.peel(pygit2.Commit).tree[str(library.below(git) / contest.log)]
        except KeyError:
            text = ""
        else:
            text = blob.data.decode() if isinstance(blob, pygit2.Blob) else ""
        yield name, set(text.splitlines())


@contextmanager
def opened(contest: Contest) -> Iterator[Climb]:
    """The climb so far; no other process can append to the log meanwhile."""
    contest.folder.mkdir(parents=True, exist_ok=True)
    with lock(LOCKS / f"{contest.name}.lock", math.inf):
        yield read(contest)


def append(climb: Climb, line: Try | End) -> Climb:
    """Add a line to the log of a climb that is ``opened``, with its ``before``, and return what the log then says. An
    end is left out if the attempt has one."""
    log = climb.contest.log
    if isinstance(line, Try) or climb.find(line.of).end is None:
        whole = line.model_copy(update={"before": climb.tip}).model_dump(mode="json", exclude_defaults=True)
        old = log.read_text(encoding="utf-8") if log.exists() else ""
        with files.atomic_path(log) as temporary:
            temporary.write_text(f"{old}{json.dumps(whole, allow_nan=False)}\n", encoding="utf-8")
    return read(climb.contest)


def _key(text: str) -> str:
    return files.digest(text)[:LENGTH]
