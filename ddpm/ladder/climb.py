"""A ladder's log, and what it says: attempts, rungs and the champion.

ladders/NAME/log.jsonl only grows, and is in git. Each line has the digest of a line before it, so one that was changed,
removed or moved is noticed. Where two machines appended at the same time, git keeps both lines (``merge=union``): the
log then forks, and every reader puts the branches into the same order, that of their digests. Nothing that depends on
the order is written down: an attempt's number, the e-value that it needs and whether it is a rung follow from the
lines.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from ddpm.base import files, sections
from ddpm.base.errors import UserError
from ddpm.base.sections import Section
from ddpm.ladder import evidence
from ddpm.ladder.terms import Contest
from ddpm.runs.record import Amount, Count, Line, Name, Score, Values
from ddpm.study import slots

LENGTH = 16  # digits of a digest
Key = Annotated[str, Field(pattern=f"^[0-9a-f]{{{LENGTH}}}$")]
Outcome = Literal["accepted", "refused", "undecided"]
BASE = ""  # in place of a rung's key
NONE = "0" * LENGTH  # in place of the digest of a line that ``append`` knows


class Head(Section):
    """The first line. terms, base: ``Contest.identity``."""

    terms: str
    base: str


class Try(Section):
    """An attempt begins: its number draws the seeds, and its share of the error is spent.

    entry: its name. changes: of the rung ``on``, the champion. challenges: the attempt that it repeats.
    """

    before: Key = NONE
    entry: Name
    changes: Values
    on: Key | Literal[""]
    number: Count
    cost: Amount
    challenges: Key | None = None


class End(Section):
    """The attempt ``of`` has ended. champion, challenger: scores by seed; of kind ``target`` the champion has none."""

    before: Key = NONE
    of: Key
    outcome: Outcome
    reason: Line
    champion: tuple[Score, ...]
    challenger: tuple[Score, ...]
    guards: dict[str, Score] = Field(default={})


@dataclass
class Attempt:
    """number: from 1, in the order of the log; a challenge has that of the rung. needed: the e-value. rung: its number
    if it became one. stands: whether that still holds."""

    key: str
    begin: Try
    number: int
    needed: float
    end: End | None = None
    outcome: Outcome | None = None
    reason: str = ""
    rung: int | None = None
    stands: bool = False


@dataclass
class Climb:
    """attempts: without challenges. tip: the digest of the last line."""

    contest: Contest
    attempts: list[Attempt] = field(default_factory=list)
    challenges: list[Attempt] = field(default_factory=list)
    rungs: list[Attempt] = field(default_factory=list)
    tip: str = BASE

    @property
    def champion(self) -> Attempt | None:
        """The highest rung that stands; None is the base."""
        return next((rung for rung in reversed(self.rungs) if rung.stands), None)

    @property
    def standing(self) -> int:
        """How many rungs stand."""
        return sum(rung.stands for rung in self.rungs)

    def find(self, key: str) -> Attempt:
        """The attempt or challenge with that key."""
        return next(attempt for attempt in (*self.attempts, *self.challenges) if attempt.key == key)

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

    def log_e(self, end: End) -> float:
        """The logarithm of an attempt's e-value."""
        return float(evidence.log_e(self.gains(end))[-1]) if end.challenger else 0.0

    def add(self, key: str, line: Try | End) -> None:
        """Take the next line into account. Raises UserError if it refers to none before it."""
        terms = self.contest.terms
        if isinstance(line, Try):
            if line.challenges:
                rung = self.find(line.challenges)
                self.challenges.append(Attempt(key, line, rung.number, 1 / terms.error))
            else:
                number = len(self.attempts) + 1
                needed = evidence.threshold(number, self.standing, terms.error)
                self.attempts.append(Attempt(key, line, number, needed))
            return
        attempt = self.find(line.of)
        if attempt.end is not None:  # two machines shared it
            return
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


KINDS: Mapping[str, type[Head | Try | End]] = {"head": Head, "try": Try, "end": End}


def read(contest: Contest) -> Climb:
    """The climb so far. Raises UserError if the log was changed by hand, or the ladder is not the one it is of."""
    climb, path = Climb(contest), contest.folder / "log.jsonl"
    if not path.exists():
        return climb
    lines: dict[str, Head | Try | End] = {}
    after: dict[str, list[str]] = {}
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        source = f"{path}: line {number}"
        try:
            value = json.loads(text)
            kind = KINDS[value.pop("line")]
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
            raise UserError(f"{source}: not a line of a ladder's log: restore the file from git") from error
        line = sections.parse(value, source, kind)
        before = BASE if isinstance(line, Head) else line.before
        key = _key(text)
        known = before in lines and (not isinstance(line, End) or line.of in lines)
        if not (known or (isinstance(line, Head) and not lines)):
            raise UserError(
                f"{source}: does not continue the lines before it: some were changed, removed or moved; restore the "
                "file from git"
            )
        if key not in lines:
            lines[key] = line
            after.setdefault(before, []).append(key)
    waiting = after[BASE]
    while waiting:  # depth first: a branch is read to its end
        climb.tip = waiting.pop()
        line = lines[climb.tip]
        if isinstance(line, Head):
            _check(contest, line, path)
        else:
            climb.add(climb.tip, line)
        waiting += sorted(after.get(climb.tip, ()), reverse=True)
    return climb


def _check(contest: Contest, head: Head, path: object) -> None:
    """Raises UserError if the ladder's file or its base is not what it was at the first attempt."""
    for part, what in (
        ("terms", f"{contest.path} has changed"),
        ("base", f"its base, preset {contest.terms.base}, has changed"),
    ):
        if contest.identity[part] != getattr(head, part):
            raise UserError(f"{path}: {what} since the first attempt: undo that, or begin a ladder of another name")


def append(contest: Contest, line: Try | End) -> Climb:
    """Add a line to the log, after a new one's head, and return what it says then. The line's ``before`` is filled in;
    an end is left out if the attempt has one."""
    contest.folder.mkdir(parents=True, exist_ok=True)
    path = contest.folder / "log.jsonl"
    with slots.locked(contest.folder, math.inf):
        climb = read(contest)
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        new = [] if old else [_text("head", Head(**contest.identity))]
        if not isinstance(line, End) or climb.find(line.of).end is None:
            tip = _key(new[0]) if new else climb.tip
            new.append(_text("try" if isinstance(line, Try) else "end", line.model_copy(update={"before": tip})))
        with files.atomic_path(path) as temporary:
            temporary.write_text(old + "".join(f"{text}\n" for text in new), encoding="utf-8")
        return read(contest)


def _text(kind: str, line: Section) -> str:
    return json.dumps({"line": kind, **line.model_dump(mode="json", exclude_defaults=True)}, allow_nan=False)


def _key(text: str) -> str:
    return files.digest(text)[:LENGTH]
