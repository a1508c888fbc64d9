"""Find, then prove: trials anywhere in a ladder's space, one run each, then one attempt with the best recipe.

Trials are free and prove nothing: the best score of many is too good, however it came about. Only the attempt counts,
which has seeds that no trial used and spends its share of the ladder's error, as any other entry does.

It begins with the champion, the ideas of the ladder's file and the rungs of other ladders; then proposals.py proposes.
At the end the best FINALISTS are run again, until each has RUNS: the best of many single runs is often a lucky one.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from statistics import fmean

from ddpm.base import files
from ddpm.base.errors import UserError, plural
from ddpm.base.locks import lock
from ddpm.base.progress import duration
from ddpm.ladder import attempt, climb, proposals, terms, trials
from ddpm.ladder.attempt import Say
from ddpm.ladder.climb import LOCKS, Attempt, Climb
from ddpm.ladder.log import BASE
from ddpm.ladder.space import Space
from ddpm.ladder.terms import LADDERS, SEARCH, Changes, Contest
from ddpm.ladder.trials import Candidate, Trial
from ddpm.study import revision
from ddpm.study.experiments import DIVERGED
from ddpm.study.pool import Done, Pool, Task, count_slots

SEARCHING = 0.7  # share of the hours for trials; the rest is for the proof
FINALISTS, RUNS = 3, 3  # ladders/short/samplers.md has the table
FAILURES = 3  # in a row that are not a trial's own, such as a full memory
EFFECT = 2.0  # in standard deviations of the gains: for how long a proof is expected to take


@dataclass
class Search:
    """One search of a ladder, the ``number``th, with ``at_once`` runs at a time. It ends after ``trials``, or when
    SEARCHING of the ``hours`` are over; one of them is given. commit: whose code runs, if not the one checked out."""

    contest: Contest
    state: Climb
    number: int
    trials: int | None
    hours: float | None
    at_once: int
    commit: str | None = None

    def __post_init__(self) -> None:
        self.running = dict[str, tuple[Changes, int, float]]()  # by task: the recipe, its seed, when it began
        self.update(self.state)
        self.starts = deque(self.space.starts(_ideas(self.contest)))
        self.numbers = itertools.count()  # of seeds

    def update(self, state: Climb) -> None:
        """Search around the champion of this climb, or the one that the search's attempt is on, from all trials that
        there are now, also those of earlier searches and other processes."""
        self.state, self.past = state, trials.read(self.contest)
        on = self.proof.begin.on if self.proof else state.champion.key if state.champion else BASE
        self.space = Space(self.contest, self.contest.shorten(state.changes(on)))

    @property
    def name(self) -> str:
        """What its attempt is called."""
        return f"search-{self.number}"

    @property
    def own_trials(self) -> list[Trial]:
        """The trials of this search."""
        return [trial for trial in self.past if trial.search == self.number]

    @property
    def proof(self) -> Attempt | None:
        """Its attempt, once it has begun: another process that searches may have begun it."""
        return next((one for one in reversed(self.state.attempts) if one.begin.entry == self.name), None)

    def total(self) -> float:
        """How many trials the search has, judging by those that are made."""
        total = math.inf if self.trials is None else self.trials
        if self.hours is not None and self.own_trials:
            seconds = fmean(trial.seconds for trial in self.own_trials)
            total = min(total, self.hours * 3600 * SEARCHING * self.at_once / seconds)
        return total

    def rank(self) -> list[Candidate]:
        """The recipes that keep the guards and that no attempt had, the best first; the champion among them."""
        state, champion = self.state, self.space.champion
        had = ({**state.changes(one.begin.on), **one.begin.changes} for one in state.attempts)
        keys = {files.digest(self.contest.shorten(changes)) for changes in had} - {files.digest(champion)}
        ranked = trials.candidates(self.contest, self.past, champion)
        return [one for one in ranked if one.trials[0].key not in keys]

    def next(self, seed: int) -> Changes | None:
        """The recipe to run next: a new one, or a finalist again; None at the end. seed: of a proposal."""
        running = [changes for changes, *_ in self.running.values()]
        total, begun = self.total(), len(self.own_trials) + len(running)
        if begun >= total:
            return None
        finalists = self.rank()[:FINALISTS]
        if finalists and begun >= total - min(FINALISTS * (RUNS - 1), total // 4):
            again = [one.changes for one in finalists if len(one.trials) + running.count(one.changes) < RUNS]
            return again[0] if again else None
        known = {trial.key for trial in self.past}
        while self.starts:
            if files.digest(start := self.starts.popleft()) not in known:
                return start
        return proposals.propose(self.space, self.past, running, seed)

    def find(self) -> Changes | None:
        """The recipe to prove: the best of the finalists that ran most often. None if that, or a better one that ran
        less often, is the champion, which is proved, or if all break a guard."""
        ranked, champion = self.rank()[:FINALISTS], self.space.champion
        most = min(RUNS, max((len(one.trials) for one in ranked), default=0))
        best = next((one.changes for one in ranked if len(one.trials) >= most or one.changes == champion), champion)
        return None if best == champion else best

    def take(self, done: Done) -> Trial | None:
        """Write down what a run scored; None if it failed for a reason that is not its own."""
        changes, seed, begin = self.running.pop(done.task.name)
        if done.record is None and not DIVERGED.search(done.reason):
            return None
        trial = Trial(
            search=self.number,
            of=trials.find_identity(self.contest),
            seed=seed,
            changes=dict(changes),
            cost=self.contest.cost(changes),
            score=done.record.scores[self.contest.terms.primary] if done.record else None,
            guards=trials.guards(self.contest, done.record) if done.record else {},
            seconds=round(time.monotonic() - begin, 1),
        )
        trials.add(self.contest, trial)
        self.past = trials.read(self.contest)  # with those of other processes
        return trial

    def explore(self, say: Say) -> None:
        """Run trials until the search ends. Raises UserError if several in a row fail for a reason that is not their
        own, such as a full disk."""
        import optuna  # noqa: F401  # that it is missing is said before anything runs

        revision.check_committed([str(self.contest.path), *(() if self.commit else revision.CODE)])
        if not self.past:
            self.contest.check_images()
        failed, devices = 0, [self.contest.config.device]
        code = revision.export(self.commit or revision.head())
        with _place(self.contest) as place, Pool(code, self.at_once, devices) as pool:
            say(f"{self.name}: {plural(self.at_once, 'run')} at a time; each prints a line when it ends")
            self.starts.rotate(-place)
            for _ in range(self.at_once):
                self._submit(pool, place)
            for done in pool.results():
                trial = self.take(done)
                failed = 0 if trial else failed + 1
                say(self._progress(trial) if trial else f"failed: {done.reason}")
                if failed == FAILURES:
                    raise UserError(f"{failed} runs in a row failed: {done.reason}")
                self._submit(pool, place)

    def _submit(self, pool: Pool, place: int) -> None:
        """Run the next trial. Its seed, above those of attempts, is that of the proposal, too: so a process that
        searches alone tries the same again."""
        known = {trial.seed for trial in self.past}
        seeds = (2**40 + int(files.digest([self.contest.name, place, each])[:10], 16) for each in self.numbers)
        seed = next(seed for seed in seeds if seed not in known)
        if (changes := self.next(seed)) is not None:
            params = trials.params(self.contest, changes, seed)
            task = Task(f"trial-{seed}", params, LOCKS / self.contest.name / f"trial-{seed}.log")
            self.running[task.name] = changes, seed, time.monotonic()
            pool.submit(task)

    def submit(self, found: Changes, say: Say) -> None:
        """Begin the attempt with what was found, and write that to found.yaml, as an entry."""
        entry, path = self.space.entry(found), self.contest.folder / "found.yaml"
        attempt.begin(self.contest, self.name, entry, source=str(path), say=say)
        lines = [f"# What search {self.number} of {self.contest.path} found: a claim, until its attempt has ended."]
        lines += [f"{key}: {json.dumps(value)}" for key, value in entry.items()]
        with files.atomic_path(path) as temporary:
            temporary.write_text("\n".join([*lines, ""]), encoding="utf-8")
        self.update(climb.read(self.contest))

    def _progress(self, trial: Trial) -> str:
        """A line about a trial that has ended: the best so far, and the time left."""
        made, most = self.own_trials, self.contest.terms.seeds.most
        seconds = fmean(one.seconds for one in made) / self.at_once
        left = duration(max(self.total() - len(made), 0) * seconds)
        arms = 2 if self.contest.terms.kind == "score" else 1
        needed = self.contest.evidence(self.name).seeds_needed(EFFECT, self.state.next_needed, most)
        proof = arms * (needed or most) * seconds
        late = self.hours and proof > (1 - SEARCHING) * self.hours * 3600
        over = f", more than --hours {self.hours:g} leaves: take more, or a shorter training" if late else ""
        best = f"best {ranked[0].score:.4g}, " if (ranked := self.rank()) else ""
        score = "diverged" if trial.score is None else f"{trial.score:.4g}"
        usual = trials.find_usual(self.past, self.space.champion)
        if fails := trials.judge(self.contest, [trial], usual).fails:
            score += f", fails {' and '.join(fails)}"
        return f"trial {len(made)}: {score}; {best}about {left} left to search, then {duration(proof)} to prove{over}"


def run(
    contest: Contest, hours: float | None, most: int | None, slots: int | None, say: Say, commit: str | None = None
) -> Search:
    """Search, and prove what was found; after any stop it continues. Returns the search, which has a proof if anything
    was found.

    Raises UserError unless the ladder, its log and the code are committed.
    """
    state = climb.read(contest)
    mine = {one.begin.entry: one for one in state.attempts if re.fullmatch(SEARCH, one.begin.entry)}
    name = next((name for name, one in mine.items() if one.end is None), f"search-{len(mine) + 1}")
    number = int(name.removeprefix("search-"))
    search = Search(contest, state, number, most, hours, count_slots(slots, [contest.config.device]), commit)
    if search.proof is None:
        attempt.check_committed(contest)
        search.explore(say)
        search.update(climb.read(contest))  # what others have tried meanwhile
    if search.proof is None and (found := search.find()) is not None:
        search.submit(found, say)
    if search.proof and search.proof.end is None:
        search.update(attempt.finish(contest, search.proof, slots, say, commit))
    return search


@contextmanager
def _place(contest: Contest) -> Iterator[int]:
    """A number that no other process has that searches the ladder: 0 for the only one."""
    for place in itertools.count():
        with lock(LOCKS / contest.name / f"search-{place}.lock") as mine:
            if mine:
                yield place
                return


def _ideas(contest: Contest) -> Iterator[Changes]:
    """Where a search begins: the ideas of the ladder's file, and the rungs of all ladders that stand."""
    yield from contest.terms.model_dump(mode="json")["ideas"]
    for path in sorted(LADDERS.glob("*.yaml")):
        with suppress(UserError):  # what is wrong with another ladder is no fault of this one
            other = climb.read(terms.load(path))
            yield from (other.changes(rung.key) for rung in reversed(other.rungs))
