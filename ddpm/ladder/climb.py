"""What a ladder's log says: attempts, rungs and the champion.

Where the ladder's file has ``long``, an attempt that is accepted is tried again, at the longer training and on fresh
seeds: an attempt of its own, which spends its own share of the error, and which becomes the rung.

The log is read with what it rests on. It has all lines that git has; each attempt is one that ``ddpm ladder try``
would begin; each end is the one that the attempt's records give; and each row belongs to an attempt. So
an attempt cannot be forgotten by cutting the file, and neither an entry's cost nor an end can be made up.
"""

import math
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ddpm.arms import revision
from ddpm.arms.question import Question
from ddpm.arms.run import Kind, Run
from ddpm.base.errors import UserError
from ddpm.base.locks import lock
from ddpm.base.variant import closest
from ddpm.ladder import log, outcome, program_contest, terms
from ddpm.ladder.log import BASE, End, Outcome, Try
from ddpm.ladder.terms import CHALLENGER, CHAMPION, OF_SEARCH, Changes, Contest
from ddpm.params import file
from ddpm.programs import worktree
from ddpm.referee import metrics
from ddpm.study.plan import check_name
from ddpm.verdicts import evidence
from ddpm.verdicts.evidence import Evidence

LOCKS = Path(".ddpm/ladders")  # next to the log, git would see them
RESTORE = "restore the file from git"


@dataclass
class Attempt:
    """An attempt on the champion."""

    key: str
    begin: Try
    number: int  # from 1
    needed: float  # the e-value
    before: Changes  # of the base, by the champion
    whole: Changes  # of the base, by champion and entry
    length: float  # of its trainings, as a multiple of the base's
    cost: float  # of the entry's training
    first_seed: int  # of consecutive ones
    end: End | None = None
    rung: int | None = None  # its number if it became one

    @property
    def evidence(self) -> Evidence:
        """What decides it."""
        return Evidence(self.begin.evidence)

    @property
    def outcome(self) -> Outcome | None:
        """How it ended."""
        return self.end.outcome if self.end else None


@dataclass
class Climb:
    """The attempts of a ladder, and what came of them. lines: of its log, by digest."""

    contest: Contest
    lines: dict[str, Try | End]
    attempts: list[Attempt] = field(default_factory=list)
    rungs: list[Attempt] = field(default_factory=list)
    on: str = BASE  # the champion's key
    changes: Changes = field(default_factory=dict)  # the champion's, of the base
    cache: dict[str, Question] = field(default_factory=dict)  # by attempt: records are read once

    @property
    def tip(self) -> str:
        """The digest of the last line."""
        return next(reversed(self.lines), BASE)

    @property
    def champion(self) -> Attempt | None:
        """The highest rung; None is the base."""
        return self.rungs[-1] if self.rungs else None

    @property
    def title(self) -> str:
        """The champion for people: rung 2, muon."""
        rung = self.champion
        return f"rung {rung.rung}, {rung.begin.entry}" if rung else f"the base, {self.contest.terms.base}"

    @property
    def open(self) -> Attempt | None:
        """The last attempt, if it has not ended."""
        return self.attempts[-1] if self.attempts and self.attempts[-1].end is None else None

    @property
    def due(self) -> Attempt | None:
        """The last attempt, if it is to hold at the longer training, too, and was not tried there yet."""
        last = self.attempts[-1] if self.attempts and self.contest.longest > 1 else None
        return last if last and last.outcome == "accepted" and not last.begin.long else None

    @property
    def next_needed(self) -> float:
        """The e-value that the next attempt needs."""
        return evidence.threshold(len(self.attempts) + 1, len(self.rungs), self.contest.terms.error)

    def find(self, key: str) -> Attempt:
        """The attempt with that key."""
        return next(attempt for attempt in self.attempts if attempt.key == key)

    def log_e(self, end: End) -> float:
        """The logarithm of an attempt's e-value."""
        sides = outcome.scores(self.contest, end)
        return float(self.find(end.of).evidence.log_e(*sides)[-1]) if end.challenger else 0.0

    def runs(self, attempt: Attempt) -> Question:
        """The runs of an attempt."""
        if attempt.key not in self.cache:
            sides = {CHAMPION: attempt.before} if self.contest.terms.kind == "score" else {}
            sides[CHALLENGER] = attempt.whole
            arms = {side: self.contest.scale(changes, attempt.length) for side, changes in sides.items()}
            is_find = re.fullmatch(OF_SEARCH, attempt.begin.entry) and not attempt.begin.long
            model = self.contest.find if is_find else None
            self.cache[attempt.key] = self._question(attempt.key, attempt.first_seed, arms, model)
        return self.cache[attempt.key]

    def runs_of_base(self) -> Question:
        """The base's runs of its own, where it does not run with a challenger."""
        return self._question("base", self.contest.seed({}, 0), {CHAMPION: {}})

    def _question(self, key: str, first: int, arms: Mapping[str, Changes], model: Path | None = None) -> Question:
        """What asks for an attempt's runs, on consecutive seeds. arms: side -> changes of the base. model: the folder
        that gets the challenger's first model. Raises UserError if a row is not what its name says."""
        contest, sides = self.contest, {arm: self.contest.recipe(changes) for arm, changes in arms.items()}
        kinds: dict[str, Kind] = dict.fromkeys(arms, "side")
        if contest.of_program or CHALLENGER not in arms:  # its crash is no loss; the base alone gives the guards a mean
            kinds[CHAMPION] = "verdict"
        models = {(CHALLENGER, first): model}
        planned = [
            Run(f"{arm}-{seed}", arm, seed, recipe, kinds[arm], pictured=seed == first, model=models.get((arm, seed)))
            for seed in range(first, first + contest.terms.seeds.most)
            for arm, recipe in [*sides.items()][:: 1 if seed % 2 else -1]  # neither is always the first
        ]
        name, primary = f"{contest.name}-{key}", contest.terms.primary
        question = Question(name, contest.rows, contest.path, primary, contest.maker, planned)
        question.take_all()
        return question

    def gaussian(self, attempt: Attempt) -> float | None:
        """What a Gaussian of the train images scores, if that is known."""
        scores = [run.scores for run in self.runs(attempt).leading_records(CHALLENGER)]
        return metrics.gaussian(scores, self.contest.terms.primary)

    def judge(self, attempt: Attempt) -> tuple[End, bool]:
        """How the attempt ends by its runs so far, and whether they decide: ``outcome.judge``."""
        usual, runs = self._measure_usual(attempt.begin.on), self.runs(attempt)
        sides = runs.leading_records(CHAMPION), runs.leading_records(CHALLENGER)
        return outcome.judge(self.contest, attempt.key, attempt.evidence, attempt.needed, usual, *sides)

    def _measure_usual(self, on: str) -> Mapping[str, float]:
        """The mean of each guarded metric of the rung ``on``, where it does not run with the challenger."""
        terms = self.contest.terms
        if terms.kind == "score" or not terms.guard_metrics:
            return {}
        if on != BASE and (end := self.find(on).end):
            return end.guards
        records = (base := self.runs_of_base()).leading_records(CHAMPION)[: terms.seeds.fewest]
        if len(records) < terms.seeds.fewest:
            missing = f"{base.rows.path}: {base.planned[len(records)].name}"
            raise UserError(f"{missing}: no such row of the base, with which guards compare: restore it from git")
        return metrics.means([run.scores for run in records], terms.guard_metrics)

    def add(self, key: str, line: Try | End) -> None:
        """Take the next line into account. Raises UserError if it is an attempt that could not begin, or an end that
        the attempt's records do not give."""
        if isinstance(line, Try):
            source = f"{self.contest.log}: {line.entry}"
            if changed := [part for part, digest in self.contest.identity.items() if getattr(line, part) != digest]:
                why = f"the {changed[0]} of {self.contest.path} changed since an attempt"
                raise UserError(f"{self.contest.log}: {why}: undo that, or begin a ladder of another name")
            if line.nonce and (self.open or line.on != self.on):
                raise UserError(f"{source}: began on another champion, or before the last attempt ended; {RESTORE}")
            if line.evidence not in ("pairs", self.contest.evidence(line.entry).name):
                raise UserError(f"{source}: evidence: {line.evidence}; allowed: pairs; {RESTORE}")
            if line.long != bool(self.due) or (self.due and line.changes != self.due.begin.changes):
                raise UserError(f"{source}: long: {line.long}; what was accepted is tried longer next; {RESTORE}")
            before, number, length = self.changes, len(self.attempts) + 1, self.contest.longest if line.long else 1.0
            whole, seed = {**before, **line.changes}, line.seed
            cost = self.contest.check(line.changes, before, source, True) if line.nonce else line.cost
            if line.long:
                cost = self.contest.cost(self.contest.scale(whole, length))
            if line.nonce:
                seed = int(key[:10], 16) % self.contest.seeds_below
            elif seed is None:
                seed = self.contest.seed(line.changes, number)
            self.attempts.append(Attempt(key, line, number, self.next_needed, before, whole, length, cost, seed))
            return
        attempt = self.open
        if attempt is None or attempt.key != line.of:
            raise UserError(f"{self.contest.log}: {line.of} is not the attempt that is open; {RESTORE}")
        if line.outcome != "withdrawn" or line.challenger:
            self._check_end(attempt, line)
        attempt.end = line
        if line.outcome == "accepted" and attempt.length == self.contest.longest:
            self.rungs.append(attempt)
            attempt.rung, self.on, self.changes = len(self.rungs), attempt.key, attempt.whole

    def _check_end(self, attempt: Attempt, end: End) -> None:
        """Raises UserError unless the attempt's runs give this end."""
        own, decides = self.judge(attempt)
        n, begin = len(end.challenger), attempt.begin
        same = (own.champion[:n], own.challenger[:n]) == (end.champion, end.challenger)
        # the guards of the first ladders, whose attempts have neither nonce nor seed, refused more
        if begin.nonce or begin.seed is not None or end.outcome != "refused":
            same &= decides and (own.outcome, len(own.challenger), own.guards) == (end.outcome, n, end.guards)
        if not same:
            gave = f"{own.outcome} after {len(own.challenger)} seeds" if decides else "no end"
            raise UserError(
                f"{self.contest.log}: the end of {attempt.begin.entry}: {end.outcome} after {n} seeds, and the "
                f"rows in {self.contest.rows.path} give {gave}: restore both from git"
            )


def load(path: Path, commit: str = "") -> Contest:
    """The ladder in a file of ladders/, a program's if it has ``run``. commit: whose code makes its rows. Raises
    UserError that names the key, its value and what is allowed, or as ``revision.check_index`` does."""
    check_name(path, "ladder", terms.LADDERS)
    revision.check_index()
    if not path.exists():
        known = sorted(other.stem for other in terms.LADDERS.glob("*.yaml"))
        raise UserError(f"{path}: no such ladder{closest(path.stem, known)}; there are {', '.join(known) or 'none'}")
    values = file.read_params(path)
    contest = (program_contest if "run" in values else terms).parse(values, path, commit)
    contest.flat(contest.scale({}, contest.longest), f"{path}: long")
    return contest


def read(contest: Contest) -> Climb:
    """The climb so far. Raises UserError if the log was changed by hand, lacks lines that git has, or does not match
    the records; or if the ladder is not the one it is of."""
    climb = Climb(contest, log.read(contest))
    contest.rows.reread()
    for reason in contest.rows.refused.values():
        raise UserError(reason)
    for name, place in contest.rows.places.items():
        if name.removeprefix(f"{contest.name}-").partition("-")[0] not in {*climb.lines, "base"}:
            raise UserError(
                f"{place}: the run of an attempt that {contest.log} does not have: restore the file from git, or `git "
                "pull`; an attempt that began stays"
            )
    for key, line in climb.lines.items():
        climb.add(key, line)
    return climb


@contextmanager
def hold(contest: Contest) -> Iterator[Climb]:
    """The climb so far, with the longer attempt begun that is ``due``; no other process can append to the log
    meanwhile."""
    contest.folder.mkdir(parents=True, exist_ok=True)
    worktree.hide_folder()
    with lock(LOCKS / f"{contest.name}.lock", math.inf):
        climb = read(contest)
        if last := climb.due:
            climb = append(climb, last.begin.model_copy(update={"long": True, "nonce": secrets.token_hex(8)}))
        yield climb


def append(climb: Climb, line: Try | End) -> Climb:
    """Add a line to the log of a climb that ``hold`` yielded, with its ``before``, and return what the log then says.
    An end is left out if the attempt has one."""
    if isinstance(line, Try) or (climb.open and climb.open.key == line.of):
        log.append(climb.contest, line.model_copy(update={"before": climb.tip}))
    return read(climb.contest)
