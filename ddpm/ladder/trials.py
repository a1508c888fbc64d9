"""A search's trials, ladders/NAME/trials.jsonl: what was tried, and what one run of it scored. They are not evidence.

The file is in git, as the log is (``merge=union``), and its order means nothing: in Optuna's own journal a trial is its
place, so of two clones' trials, merged, it has the scores of one alone. Each process that searches adds lines and reads
those of others. So a line may be anybody's: it counts if its changes may be tried, at the cost that they have, and as a
search's own if a process of this folder wrote it.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Literal, NamedTuple

from pydantic import Field

from ddpm.base import files, sections
from ddpm.base.errors import UserError
from ddpm.base.sections import Section, Seed
from ddpm.ladder.climb import LOCKS
from ddpm.ladder.log import LENGTH, Key
from ddpm.ladder.terms import MEMORISATION, Changes, Contest
from ddpm.referee import metrics
from ddpm.runs.alike import group_by
from ddpm.runs.record import Amount, Count, Record, Score, Values

NAME = "trials.jsonl"
ETA = 3  # of as many trials at a length, one goes on
LARGEST = 2**22  # bytes of it: thousands of trials, each of which takes milliseconds to check


class Trial(Section):
    """One run. search: the number of the search that made it. of: ``find_identity``. changes: of the base. score: None
    if it diverged. guards: the guarded metrics; ``memorisation`` is 1 if it copies train images. seconds: that it
    took. length: a share of the recipe's training. yardstick: ``metrics.yardstick`` of the run. limits: those of the
    guarded metrics. eyes: ``metrics.list_panel`` of it."""

    evidence: Literal[False] = False
    search: Count
    of: Key
    seed: Seed
    changes: Values
    cost: Amount
    score: Score | None = None
    guards: dict[str, Score] = Field(default={})
    seconds: Amount = 0.0
    length: float = 1.0
    yardstick: Score | None = None
    limits: dict[str, Score] = Field(default={})
    eyes: dict[str, Score] = Field(default={})

    @property
    def key(self) -> str:
        """Equal for trials of the same recipe."""
        return files.digest(dict(self.changes))


class Candidate(NamedTuple):
    """A recipe with its trials. score: their mean. loss: what a search makes small. excess: by how much it breaks
    guards and misses the target, all together. fails: the names of those."""

    key: str  # of its trials
    changes: Changes
    trials: Sequence[Trial]
    score: float
    loss: float
    excess: float
    fails: Sequence[str]


def find_identity(contest: Contest) -> str:
    """Digest of what trials that are compared have in common: the base, the scores, and what a cost is. Until the first
    attempt a ladder's file may change."""
    terms = contest.terms
    what = [contest.identity["base"], terms.primary, terms.guards, terms.cost, *sorted(terms.unseen)]
    return files.digest([*what, *(contest.identity.values() if contest.of_program else ())])[:LENGTH]


class Trials:
    """The trials of a ladder that count, by the number of their line, each checked once. own: those that processes of
    this folder wrote. refused: why others do not count."""

    def __init__(self, contest: Contest):
        self.contest, self.checked = contest, dict[str, Trial | None]()
        self.own, self.refused = list[Trial](), list[str]()

    def read(self) -> dict[int, Trial]:
        """Those of now. Raises UserError for a file that is not one of trials."""
        path, own = self.contest.folder / NAME, {*files.read_lines(_own_path(self.contest), LARGEST)}
        # a merge may double a line
        numbers = {text: number for number, text in enumerate(files.read_lines(path, LARGEST), 1)}
        for text, number in numbers.items():
            if text not in self.checked:
                self.checked[text] = self._check(text, f"{path}: line {number}")
        counting = {text: trial for text in numbers if (trial := self.checked[text])}
        self.own = [trial for text, trial in counting.items() if text in own]
        return {numbers[text]: trial for text, trial in counting.items()}

    def _check(self, text: str, source: str) -> Trial | None:
        """None if the line is of another base or other scores, or may not be tried."""
        try:
            trial = sections.parse(json.loads(text), source, Trial)
            if trial.of == find_identity(self.contest):
                if trial.length not in self.contest.lengths:
                    raise UserError(f"{source}: length: {trial.length:g}, which {self.contest.path} does not have")
                if trial.score is not None and trial.guards.keys() != {*self.contest.terms.guards}:
                    raise UserError(f"{source}: guards: not those of {self.contest.path}")
                cost = self.contest.check(trial.changes, {}, source, allow_null=True)
                return trial.model_copy(update={"cost": cost})
        except (OverflowError, RecursionError, ValueError):
            self.refused.append(f"{source}: not a trial")
        except UserError as error:
            self.refused.append(str(error))
        return None


def _own_path(contest: Contest) -> Path:
    """A copy of the lines that processes of this folder wrote, which git does not see."""
    return LOCKS / contest.name / NAME


def finish(contest: Contest, trial: Trial, run: Record, seconds: float) -> Trial:
    """A trial that has ended. run: what it scored; nothing if it diverged. seconds: that it took."""
    scores, primary = run.scores, contest.terms.primary
    guarded = scores | {MEMORISATION: float(bool(metrics.find_copies(scores)))}
    guards = {name: guarded[name] for name in contest.terms.guards if scores}
    eyes = {name: scores[name] for name in metrics.list_panel([scores])}
    limits = {name: limit for name in guards if (limit := metrics.yardstick(scores, name)) is not None}
    result = {"score": scores.get(primary), "guards": guards, "seconds": round(seconds, 1), "eyes": eyes}
    result |= {"yardstick": metrics.yardstick(scores, primary), "limits": limits}
    return trial.model_copy(update=result)


def add(contest: Contest, trial: Trial) -> None:
    """Append a trial. Raises UserError if the disk is full; then the file is as it was."""
    whole = {"length"} if trial.length == 1 else set[str]()
    for path in (_own_path(contest), contest.folder / NAME):
        files.append_lines(path, [json.dumps(trial.model_dump(mode="json", exclude=whole))])


def candidates(contest: Contest, trials: Sequence[Trial], champion: Changes) -> list[Candidate]:
    """The recipes that keep the guards, reach the target and never diverged, the best first: by their mean score or,
    for kind ``target``, by cost."""
    usual = find_usual(trials, champion)
    judged = (judge(contest, runs, usual) for runs in group_by(trials, lambda trial: trial.key).values())
    return sorted((one for one in judged if math.isfinite(one.score) and not one.fails), key=lambda one: one.loss)


def find_usual(trials: Sequence[Trial], champion: Changes) -> dict[str, float]:
    """The champion's guarded metrics; empty if it was not tried."""
    key = files.digest(champion)
    return means([trial for trial in trials if trial.key == key])


def judge(contest: Contest, runs: Sequence[Trial], usual: dict[str, float]) -> Candidate:
    """A recipe's trials together. A guarded metric has to be no worse than the champion's by more than its margin, and
    no worse than a Gaussian's. usual: the champion's; empty if they are not known."""
    terms, of_guards, diverged = contest.terms, means(runs), -contest.gain(math.inf)
    scores = [diverged if trial.score is None else trial.score for trial in runs]
    excess = {MEMORISATION: of_guards.pop(MEMORISATION, 0.0)}
    if terms.target is not None:  # by each run: the cheapest whose mean does would miss it on half of all fresh seeds
        excess["target"] = math.fsum(max(-contest.gain(score - terms.target), 0.0) for score in scores)
    for name in of_guards.keys() & usual.keys():
        margin = contest.known.margin(name, usual[name])
        excess[name] = contest.gain(usual[name] - of_guards[name], name) - margin
    for name, limit in runs[0].limits.items():  # of metrics that are better when lower
        excess[name] = max(excess.get(name, 0.0), of_guards.get(name, limit) - limit)
    loss = runs[0].cost if terms.kind == "target" else -contest.gain(fmean(scores))
    fails = {name: by for name, by in excess.items() if by > 0}
    first, excesses = runs[0], math.fsum(fails.values())
    return Candidate(first.key, dict(first.changes), runs, fmean(scores), loss, excesses, sorted(fails))


def means(runs: Sequence[Trial]) -> dict[str, float]:
    """The mean of each guarded metric; empty if all diverged."""
    scored = [trial.guards for trial in runs if trial.score is not None]
    return metrics.means(scored, scored[0] if scored else ())
