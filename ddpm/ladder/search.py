"""Find, then prove: trials anywhere in a ladder's space, one run each, then one attempt with the best recipe.

Trials are free and prove nothing: the best score of many is too good, however it came about. Only the attempt counts,
which has seeds that no trial used and spends its share of the ladder's error, as any other entry does. Where a known
idea is ahead of the champion, too, it is tried first, so that the find has to beat the better of the two.

It begins with the champion, the file's ideas and the rungs of other ladders; then space.py proposes. Where the
file has ``lengths``, all but the champion begin at the shortest, and whenever a recipe is among the best of its length,
it runs at the next one (asynchronous successive halving, Li et al. 2020, arXiv:1810.05934). At the end the best
FINALISTS are run again, until each has RUNS: the best of many single runs is often a lucky one.
Trials of others and of earlier searches only propose. If the best recipe is worse than a Gaussian of the train images,
nothing is proved: such a training is too short to compare recipes.
"""

import itertools
import json
import math
import re
import shutil
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Self, TypeAlias

from ddpm.arms.pool import Pool, Task
from ddpm.arms.run import Run
from ddpm.base import files
from ddpm.base.errors import UserError, plural, printable
from ddpm.base.locks import lock
from ddpm.base.progress import duration
from ddpm.ladder import attempt, climb, trials
from ddpm.ladder.attempt import Say
from ddpm.ladder.climb import LOCKS, Attempt, Climb
from ddpm.ladder.space import Space, list_ideas
from ddpm.ladder.terms import IDEA, SEARCH, Changes, Contest
from ddpm.ladder.trials import ETA, Candidate, Trial, Trials
from ddpm.referee import metrics

SEARCHING = 0.7  # share of the hours for trials; the rest is for the proof
FINALISTS, RUNS = 3, 3  # ladders/short/samplers.md has the table
SHOWN = 3  # trials that do not count, by line
FAILURES = 3  # in a row that are not a trial's own, such as a full memory
Show: TypeAlias = Callable[["Search"], None]
EFFECT = 2.0  # in standard deviations of the gains: for how long a proof is expected to take


@dataclass
class Search:
    """One search of a ladder, the ``number``th, with ``slots`` runs at a time, by default one per GPU or core. It ends
    after ``trials`` whole trainings, or when SEARCHING of the ``hours`` are over; one of them is given."""

    contest: Contest
    state: Climb
    number: int
    trials: int | None
    hours: float | None
    slots: int | None

    def __post_init__(self) -> None:
        self.running = dict[str, tuple[Trial, float]]()  # by task: the trial, and when it began
        self.one = Run("trial", "trial", 0, self.contest.recipe({}), "trial")  # all run on the same device
        self.at_once = self.contest.maker.count_slots([self.one], self.slots)
        self.file = Trials(self.contest)
        self.update(self.state)
        champion, *ideas = self.space.starts(list_ideas(self.contest))
        self.known = {files.digest(start) for start in (champion, *ideas)}
        past, first = {trial.key for trial in self.past}, self.contest.lengths[0]
        self.starts = deque([(champion, 1.0), *((one, first) for one in ideas if files.digest(one) not in past)])
        self.numbers = itertools.count(len(self.own()))  # of proposals: one that searches alone tries the same again

    def update(self, state: Climb) -> Self:
        """Search around the champion of this climb, or the one that the search's attempt is on, from all trials that
        there are now, also those of earlier searches and other processes."""
        self.state, self.past = state, [*self.file.read().values()]
        return self.look(self.proof.before if self.proof and not self.is_idea_over else state.changes)

    def look(self, champion: Changes) -> Self:
        """Compare with this champion, whose changes are of the base."""
        self.space = Space(self.contest, self.contest.shorten(champion))
        return self

    @property
    def name(self) -> str:
        """What its attempt is called."""
        return f"search-{self.number}"

    def own(self, *lengths: float) -> list[Trial]:
        """The trials of this search, by processes of this folder; those of the lengths, if some are given."""
        mine = [trial for trial in self.file.own if trial.search == self.number]
        return [trial for trial in mine if not lengths or trial.length in lengths]

    @property
    def counts(self) -> Counter[tuple[str, float]]:
        """How many of its trials have ended or run, by recipe and length."""
        return Counter((one.key, one.length) for one in (*self.own(), *(trial for trial, _ in self.running.values())))

    @property
    def attempts(self) -> list[Attempt]:
        """With the best known idea, if that was tried first, and with what it found, each followed by the longer one:
        another process that searches may have begun them."""
        return [one for one in self.state.attempts if one.begin.entry in (self.name, self.name + IDEA)]

    @property
    def proof(self) -> Attempt | None:
        """The last of its attempts that is as long as a whole trial."""
        return next((one for one in reversed(self.attempts) if not one.begin.long), None)

    @property
    def is_proving(self) -> bool:
        """Whether its last attempt has not ended."""
        return bool(self.attempts) and self.attempts[-1] is self.state.open

    @property
    def is_idea_over(self) -> bool:
        """Whether the best known idea was tried, and what was found is not yet."""
        return bool(self.proof and self.proof.begin.entry != self.name and not self.is_proving)

    @property
    def claims(self) -> list[Trial]:
        """The whole trials of the recipe that its attempt proves."""
        recipe = self.proof and self.proof.begin.changes
        return [trial for trial in self.own(1.0) if self.space.entry(trial.changes) == recipe]

    @property
    def pace(self) -> float:
        """Seconds of a whole training, by the trials that are made."""
        return math.fsum(trial.seconds for trial in self.own()) / _measure(self.own())

    def total(self) -> float:
        """How many whole trainings the search has, judging by those that are made."""
        total = self.trials or math.inf
        if self.hours is None or not self.own():
            return total
        return min(total, self.hours * 3600 * SEARCHING * self.at_once / self.pace)

    def grids(self, key: str, seed: int) -> Path:
        """The folder of what the recipe's trial drew, if it ran on this machine."""
        return LOCKS / self.contest.name / f"trial-{key[:10]}-{seed}"

    def rank(self, runs: Sequence[Trial]) -> list[Candidate]:
        """The recipes of these trials that keep the guards and that no attempt had, the best first; the champion among
        them."""
        champion = self.space.champion
        had = {files.digest(self.contest.shorten(one.whole)) for one in self.state.attempts} - {files.digest(champion)}
        return [one for one in trials.candidates(self.contest, runs, champion) if one.key not in had]

    def next(self, seed: int) -> tuple[Changes, float] | None:
        """The recipe to run next, and how long: a new one, or one that goes on, or a finalist again; None at the end.
        seed: of a proposal."""
        counts, total = self.counts, self.total()
        if (spent := math.fsum(length * count for (_, length), count in counts.items())) >= total:
            return None
        finalists = self.rank(self.own(1.0))[:FINALISTS]
        if finalists and spent >= total - min(FINALISTS * (RUNS - 1), total // 4):
            return next(((one.changes, 1.0) for one in finalists if counts[one.key, 1.0] < RUNS), None)
        while self.starts:
            start, length = self.starts.popleft()
            if not counts[files.digest(start), length]:
                return start, length
        lengths = self.contest.lengths
        for short, longer in reversed([*itertools.pairwise(lengths)]):
            tried = self.own(short)
            for one in self.rank(tried)[: len(tried) // ETA]:
                if not counts[one.key, longer]:
                    return one.changes, longer
        running = [trial.changes for trial, _ in self.running.values()]
        past = [trial for trial in self.past if trial.length == lengths[0]]
        return self.space.propose(past, running, seed), lengths[0]

    def find(self) -> tuple[list[Changes], str]:
        """The recipes to prove: the best of the finalists that this search ran most often and, before it, the best of
        the known ideas that are ahead of the champion, if that is another one. Nothing if the best, or a better one
        that ran less often, is the champion, which is proved; nor, with the reason, if none has a score, all break a
        guard, or it is worse than a Gaussian of the train images."""
        if self.own() and all(trial.score is None for trial in self.own()):
            return [], "no trial has a score, not even the champion: its line says why"
        whole, champion = self.own(1.0), self.space.champion
        ranked = self.rank(whole)
        finalists = ranked[:FINALISTS]
        most = min(RUNS, max((len(one.trials) for one in finalists), default=0))
        best = next((one for one in finalists if len(one.trials) >= most or one.changes == champion), None)
        if best is None:
            usual = trials.find_usual(whole, champion)
            broken = Counter(name for one in whole for name in trials.judge(self.contest, [one], usual).fails)
            guards = ", ".join(f"{name} in {count}" for name, count in broken.most_common())
            why = f"nothing keeps the guards, which break in {plural(len(whole), 'whole trial')}: {guards}"
            return [], why if broken else ""
        if metrics.is_early(best.score, self.yardstick):
            has = f"the find has a {metrics.title(self.contest.terms.primary)} of {best.score:.4g}, worse than that"
            why = f"of a Gaussian of the train images, {self.yardstick:.4g}: too early to compare; train for longer"
            return [], f"{has} {why}"
        if best.changes == champion:
            return [], ""
        ahead = itertools.takewhile(lambda one: one.changes != champion, ranked)
        idea = next((one for one in ahead if one.key in self.known), best)
        return ([best.changes] if idea is best else [idea.changes, best.changes]), ""

    @property
    def yardstick(self) -> float | None:
        """``metrics.yardstick`` of the search's own runs."""
        return next((trial.yardstick for trial in self.own(1.0) if trial.yardstick is not None), None)

    def explore(self, say: Say, show: Show) -> None:
        """Run trials until the search ends, and show it after each; those that run when all ``hours`` are over are
        stopped. Raises UserError if several in a row fail for a reason that is not their own, such as a full disk."""
        import optuna  # noqa: F401  # that it is missing is said before anything runs

        if not self.past:
            self.contest.check_images()
        failed, spent = 0, sum(trial.seconds for trial in self.own()) / self.at_once
        until = self.hours and time.monotonic() + self.hours * 3600 - spent
        with _place(self.contest) as place, self.contest.maker.pool([self.one], self.at_once) as pool:
            say(f"{self.name}: {plural(self.at_once, 'run')} at a time; each prints a line when it ends")
            show(self)
            for reason in self.file.refused[:SHOWN]:
                say(printable(f"left out: {reason}"))
            self.starts.rotate(-place)
            for _ in range(self.at_once):
                self._submit(pool, place)
            for done in pool.run(until=until):
                trial, begin = self.running.pop(done.task.name)
                if record := done.record:
                    failed, trial = 0, trials.finish(self.contest, trial, record, time.monotonic() - begin)
                    trials.add(self.contest, trial)
                    self.past = [*self.file.read().values()]  # with those of other processes
                    say(self._progress(trial) + (f"; {record.diverged}" if record.diverged else ""))
                    if len(self.own()) == len(self.known) and (reason := self.find()[1]):  # after the starts
                        say(f"so far, {reason}; a search that ends so proves nothing")
                else:
                    failed += 1
                    say(f"failed: {done.reason}")
                show(self)
                if failed == FAILURES:
                    raise UserError(f"{failed} runs in a row failed: {done.reason}")
                self._submit(pool, place)
            if self.running:
                say(f"--hours {self.hours:g} are over: {plural(len(self.running), 'run')} stopped before the end")

    def _submit(self, pool: Pool, place: int) -> None:
        """Run the next trial. Recipes share their seeds, the n-th run of each the n-th: so what a seed is worth has no
        part in the choice."""
        if recipe := self.next(self._seed("propose", place, next(self.numbers))):
            (changes, length), of = recipe, trials.find_identity(self.contest)
            key, cost = files.digest(dict(changes)), self.contest.cost(changes)
            seed = self._seed(self.number, self.counts[key, length])
            trial = Trial(search=self.number, of=of, seed=seed, changes=dict(changes), cost=cost, length=length)
            keep, params = self.grids(key, seed), self.contest.trial(changes, seed, length)
            task = Task(keep.name, params, keep.with_suffix(".log"), may_diverge=True, keep=keep)
            self.running[task.name] = trial, time.monotonic()
            pool.submit(task)

    def _seed(self, *of: object) -> int:
        """Above those of attempts."""
        below = self.contest.seeds_below
        return below + int(files.digest([self.contest.name, *of])[:10], 16) % below

    def submit(self, name: str, found: Changes, say: Say) -> None:
        """Begin the attempt with what was found, and write that to found.yaml, as an entry; remove the last find."""
        entry, path = self.space.entry(found), self.contest.folder / "found.yaml"
        if self.state.open is None:
            shutil.rmtree(self.contest.find, ignore_errors=True)  # of the last search
        attempt.begin(self.contest, name, entry, source=str(path), say=say)
        header = f"# What search {self.number} of {self.contest.path} found: a claim, until its attempt has ended.\n"
        files.write_text(path, header + "".join(f"{key}: {json.dumps(value)}\n" for key, value in entry.items()))
        self.update(climb.read(self.contest))

    def prove(self, slots: int | None, say: Say, show: Show) -> None:
        """Run its attempt to the end, if one is open."""
        if (last := self.state.open) and self.is_proving:
            end = attempt.finish(self.contest, last, slots, say, lambda state: show(self.update(state)))
            self.update(end)

    def left(self) -> str:
        """How long the search and the proof take."""
        made, most = self.own(), self.contest.terms.seeds.most
        if not made:
            return "the time left is not known yet"
        left = max(self.total() - _measure(made), 0) * self.pace / self.at_once
        seconds = fmean(one.seconds for one in self.own(1.0) or made) / self.at_once
        arms = 2 if self.contest.terms.kind == "score" else 1
        needed = self.contest.evidence(self.name).seeds_needed(EFFECT, self.state.next_needed, most)
        proof = arms * (needed or most) * seconds * sum({1.0, self.contest.longest}) * max(1, len(self.find()[0]))
        late = self.hours and proof > (1 - SEARCHING) * self.hours * 3600
        over = f", more than --hours {self.hours:g} leaves: take more, or a shorter training" if late else ""
        ahead = f"about {duration(left)} left to search, then" if left else "the search ends, then"
        return f"{ahead} {duration(proof)} to prove{over}"

    def _progress(self, trial: Trial) -> str:
        """A line about a trial that has ended: its score and recipe, the best so far, and the time left."""
        best = next(iter(self.rank(self.own(1.0))), None)
        shown = f"best {best.score:.4g}" if best else "none counts so far"
        shown += f", a mean of {len(best.trials)} runs" if best and len(best.trials) > 1 else ""
        primary, usual = self.contest.terms.primary, trials.find_usual(self.own(trial.length), self.space.champion)
        score = "no score" if trial.score is None else f"{metrics.title(primary)} {trial.score:.4g}"
        than = "" if trial.yardstick is None else f", a Gaussian {trial.yardstick:.4g}"
        score += f" ({self.contest.known.direction(primary)} is better{than})"
        fails = trials.judge(self.contest, [trial], usual).fails
        broken = f", fails {' and '.join(fails)}" if fails else ""
        again = [one.key for one in self.own(trial.length)].count(trial.key) > 1
        start = "again: " if again else "known: " if trial.key in self.known else ""
        recipe = f"{start}{self.space.describe(trial.changes, trial.length)}"
        return f"trial {len(self.own())}: {score}{broken}; {recipe}; {shown}; {self.left()}"


def run(contest: Contest, hours: float | None, most: int | None, slots: int | None, say: Say, show: Show) -> Search:
    """Search, and prove what was found; after any stop it continues. Returns the search, which has a proof if anything
    was found. show: gets the search after each run.

    Raises UserError unless the ladder, its log and the code are committed.
    """
    contest.maker.check_committed([str(contest.path)])
    primary = contest.terms.primary
    say(f"{contest.path}: searching by {primary}, {contest.known.direction(primary)} is better")
    with climb.hold(contest) as state:
        mine = {one.begin.entry: one for one in state.attempts if re.fullmatch(SEARCH, one.begin.entry)}
    number = len(mine) + all(one.end for one in mine.values())  # the last one continues until it has ended
    search = Search(contest, state, number, most, hours, slots)
    if search.proof is None or search.is_idea_over:
        attempt.check_committed(contest)
        search.explore(say, show)
        search.update(climb.read(contest))  # what others have tried meanwhile
        if search.proof is None and len(found := search.find()[0]) > 1:
            search.submit(search.name + IDEA, found[0], say)
    search.prove(slots, say, show)
    if (search.proof is None or search.is_idea_over) and (found := search.find()[0]):
        search.submit(search.name, found[-1], say)
        search.prove(slots, say, show)
    return search.look(search.proof.before) if search.proof else search


def _measure(runs: Sequence[Trial]) -> float:
    """How many whole trainings these are as long as."""
    return math.fsum(trial.length for trial in runs)


@contextmanager
def _place(contest: Contest) -> Iterator[int]:
    """A number that no other process has that searches the ladder: 0 for the only one."""
    for place in itertools.count():
        with lock(LOCKS / contest.name / f"search-{place}.lock") as mine:
            if mine:
                yield place
                return
