"""An attempt: seeds are run until its e-value suffices, it is hopeless, or the most seeds are reached.

**Guards.** An entry is accepted only while the mean of each guarded metric over the attempt's seeds is worse than the
champion's by at most the margin (``metrics.margin``); until then the attempt continues. It is refused as soon as that
mean is beyond the margin by more than evidence.HOPE standard errors, or a challenger copies train images under the
guard ``memorisation``. So guards can only refuse, and the share of false rungs stays below the error. With kind
``target``, where the champion does not run, its mean is that of the attempt that made it, and the base is scored on
``seeds.fewest`` seeds of its own.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import numpy as np

from ddpm.base import files
from ddpm.base.errors import UserError
from ddpm.base.machine import cores
from ddpm.ladder import climb, evidence
from ddpm.ladder.climb import BASE, Attempt, Climb, End, Outcome, Try
from ddpm.ladder.terms import MEMORISATION, Changes, Contest
from ddpm.params import file
from ddpm.runs.record import Record
from ddpm.study import grid, runner
from ddpm.study.experiments import Experiment, Study
from ddpm.study.ledger import Ledger
from ddpm.study.plan import Plan
from ddpm.study.worker import Busy, Worker
from ddpm.verdicts import metrics

ARMS = ("champion", "challenger")
POLL = 1.0  # seconds between two checks of experiments that other processes run
Say = Callable[[str], None]


class Pairs(Study):
    """The experiments of an attempt. Its records are in ladders/NAME/runs/KEY/."""

    @property
    def results(self) -> Path:
        return self.path.with_suffix("") / "runs" / self.name.rpartition("-")[2]

    def leaves_picture(self, _: Experiment) -> bool:
        return False


class Records(Ledger):
    """The records of an attempt, without a folder between."""

    def path(self, name: str) -> Path:
        return self.study.results / f"{name}.json"

    def _files(self) -> list[Path]:
        return sorted(self.study.results.glob("*.json"))


class Run(NamedTuple):
    """An attempt's experiments, by arm and place among the seeds, and where their records are."""

    records: Records
    experiments: Mapping[str, Sequence[Experiment]]

    def scored(self, arm: str) -> list[Record]:
        """The records of an arm up to the first that is missing."""
        done = [self.records.records.get(experiment.name) for experiment in self.experiments[arm]]
        return [run for run in done[: done.index(None) if None in done else None] if run]


def prepare(contest: Contest, name: str, first_seed: int, arms: Mapping[str, Changes]) -> Run:
    """The experiments of an attempt. arms: name -> changes of the base. Raises UserError unless code and ladder are
    committed."""
    terms, most = contest.terms, contest.terms.seeds.most
    plan = Plan(
        question=terms.question,
        base=terms.base,
        arms={arm: dict(arms.get(arm, {})) for arm in ARMS},
        primary=terms.primary,
        looks=(most,),
        first_seed=first_seed,
    )
    texts = {arm: grid.overridden(contest.text, {**changes, "seed": first_seed}, arm) for arm, changes in arms.items()}
    params = {arm: file.decode(text, arm) for arm, text in texts.items()}
    configs = {arm: contest.params(changes) for arm, changes in arms.items()}
    study = Pairs(f"{contest.name}-{name}", plan, params, configs, texts, contest.path)
    records = Records(study)
    records.fix()
    runs = {arm: [run for run in study.experiments() if run.arm == arm] for arm in arms}
    if "challenger" in runs:  # a training that diverges is a result
        runs["challenger"] = [run._replace(tried=dict(arms["challenger"])) for run in runs["challenger"]]
    return Run(records, runs)


def run(ledger: Ledger, experiments: Iterable[Experiment], at_once: int) -> None:
    """Run those that are missing on that many slots. Raises UserError with the reason if one fails."""
    devices = runner.gpus(ledger.study)
    worker = Worker(ledger, tuple(devices[k % len(devices)] for k in range(at_once)) if devices else ())
    left = ledger.missing(experiments)
    while left:
        pool = ThreadPoolExecutor(at_once)
        with runner.stopping(worker, pool):
            for done in [pool.submit(_run, worker, experiment) for experiment in left]:
                done.result()
        ledger.update()
        if left := ledger.missing(left):
            if reason := ledger.refused.get(left[0].name):
                raise UserError(reason)
            time.sleep(POLL)


def _run(worker: Worker, experiment: Experiment) -> None:
    with contextlib.suppress(Busy):  # another process has it
        worker.run(experiment)


def seed(contest: Contest, changes: Changes, number: int, challenges: str | None = None) -> int:
    """The first of an attempt's consecutive seeds, which nobody chooses: below 2^40."""
    return int(files.digest([contest.name, dict(changes), number, challenges])[:10], 16)


def begin(contest: Contest, entry: str, changes: Changes, allow_null: bool, source: str, say: Say) -> Attempt:
    """The entry's open attempt on the champion, or a new one. Raises UserError if it may not try: nothing is spent."""
    state = climb.read(contest)
    on = state.champion.key if state.champion else BASE
    cost = contest.check(changes, state.changes(on), source, allow_null)
    number = len(state.attempts) + 1
    same = (old for old in state.attempts if old.end is None and old.begin.on == on and old.begin.changes == changes)
    needed = evidence.threshold(number, state.standing, contest.terms.error)
    attempt = next(same, None)
    if attempt is None:
        _check_seeds(contest, needed, f"attempt {number}")
        prepare(
            contest, "check", 0, {"challenger": state.changes(on) | dict(changes)}
        )  # what is not committed is refused
        state = climb.append(contest, Try(entry=entry, changes=dict(changes), on=on, number=number, cost=cost))
        attempt = state.attempts[-1]
    announce(contest, attempt, say)
    return attempt


def challenge(contest: Contest, rung: int, say: Say) -> Attempt:
    """The rung's open challenge, or a new one. Raises UserError if no such rung stands."""
    state = climb.read(contest)
    standing = {str(attempt.rung): attempt for attempt in state.rungs if attempt.stands}
    if str(rung) not in standing:
        raise UserError(f"{contest.path}: no rung {rung} stands; allowed: {', '.join(standing) or 'none'}")
    old = standing[str(rung)]
    mine = [attempt for attempt in state.challenges if attempt.begin.challenges == old.key]
    if not mine or mine[-1].end is not None:
        _check_seeds(contest, 1 / contest.terms.error, f"rung {rung}")
        line = old.begin.model_copy(update={"number": len(mine) + 1, "challenges": old.key})
        mine = climb.append(contest, line).challenges
    announce(contest, mine[-1], say)
    return mine[-1]


def _check_seeds(contest: Contest, needed: float, what: str) -> None:
    most = contest.terms.seeds.most
    if (fewest := evidence.fewest(needed)) > most:
        raise UserError(
            f"{contest.path}: seeds.most: {what} needs an e-value of {needed:.0f}, which {most} seeds cannot give; "
            f"allowed: {fewest} or more, in a ladder of another name"
        )


def announce(contest: Contest, attempt: Attempt, say: Say) -> None:
    """How many seeds an effect would need, before any is run."""
    most = contest.terms.seeds.most
    counts = (evidence.seeds_needed(effect, attempt.needed, most) for effect in (1, 2, 3))
    shown = ", ".join(
        f"{effect} sd {f'over {most}' if count is None else count}" for effect, count in enumerate(counts, 1)
    )
    say(f"attempt {attempt.number}: accepted at an e-value of {attempt.needed:.0f}; seeds for an effect of {shown}")


def finish(contest: Contest, attempt: Attempt, slots: int | None, say: Say) -> Climb:
    """Run the attempt to its end on ``slots`` (one per core or GPU), and return the climb with it. After any stop it
    continues."""
    state, terms = climb.read(contest), contest.terms
    champion = state.changes(attempt.begin.on)
    arms: dict[str, Changes] = {"champion": champion} if terms.kind == "score" else {}
    arms["challenger"] = {**champion, **attempt.begin.changes}
    first_seed = seed(contest, attempt.begin.changes, attempt.begin.number, attempt.begin.challenges)
    runs = prepare(contest, attempt.key, first_seed, arms)
    at_once = slots or len(runner.gpus(runs.records.study)) or cores()
    reference = {} if terms.kind == "score" else _reference(state, attempt, at_once)
    width, wanted = max(1, at_once // len(arms)), 0
    while (end := judged(state, attempt, runs, reference)) is None:
        wanted = min(max(wanted, len(runs.scored("challenger"))) + width, terms.seeds.most)
        run(
            runs.records,
            [one for place in range(wanted) for arm in arms for one in [runs.experiments[arm][place]]],
            at_once,
        )
        scores = [record.scores[terms.primary] for record in runs.scored("challenger") if not record.diverged]
        say(f"{len(scores)} seeds: {terms.primary} {fmean(scores):.4g}" if scores else "diverged")
    return climb.append(contest, end)


def _reference(state: Climb, attempt: Attempt, at_once: int) -> dict[str, float]:
    """The champion's mean of each guarded metric, where it does not run with the challenger."""
    contest, terms = state.contest, state.contest.terms
    if not terms.guarded:
        return {}
    if attempt.begin.on != BASE:
        end = state.find(attempt.begin.on).end
        return dict(end.guards) if end else {}
    runs = prepare(contest, "base", seed(contest, {}, 0), {"champion": {}})
    first = runs.experiments["champion"][: terms.seeds.fewest]
    run(runs.records, first, at_once)
    return {name: fmean(runs.records.records[one.name].scores[name] for one in first) for name in terms.guarded}


def judged(state: Climb, attempt: Attempt, runs: Run, reference: Mapping[str, float]) -> End | None:
    """How the attempt ends at the first seed that decides; None if more are needed."""
    terms, records = state.contest.terms, {arm: runs.scored(arm) for arm in runs.experiments}
    count = min(map(len, records.values()))
    for n in range(1, count + 1):
        challenger = records["challenger"][:n]
        champion = records["champion"][:n] if "champion" in records else []
        diverged = challenger[-1].diverged
        scored = challenger[:-1] if diverged else challenger
        end = End(
            of=attempt.key,
            outcome="refused",
            reason="",
            champion=tuple(record.scores[terms.primary] for record in champion[: len(scored)]),
            challenger=tuple(record.scores[terms.primary] for record in scored),
            guards={name: fmean(record.scores[name] for record in scored) for name in terms.guarded if scored},
        )
        if diverged:
            return end.model_copy(update={"reason": f"seed {challenger[-1].seed}: {diverged}"})
        if verdict := decided(state, attempt, end, challenger, champion, reference):
            return end.model_copy(update=dict(zip(("outcome", "reason"), verdict, strict=True)))
    return None


def decided(
    state: Climb,
    attempt: Attempt,
    end: End,
    challenger: Sequence[Record],
    champion: Sequence[Record],
    reference: Mapping[str, float],
) -> tuple[Outcome, str] | None:
    """The outcome after these seeds and why; None if more are needed."""
    terms, n = state.contest.terms, len(challenger)
    accepts, hopeless = evidence.looks(state.gains(end), attempt.needed, terms.seeds.fewest, terms.seeds.most)
    compare = state.contest.config.compare
    doubt = ""
    for name in terms.guarded:
        scores = np.array([record.scores[name] for record in challenger])
        usual = np.array([record.scores[name] for record in champion]) if champion else np.full(n, reference[name])
        beyond = np.array([-metrics.gain(name, gap) for gap in scores - usual])
        beyond = beyond - metrics.margin(name, float(usual.mean()), compare)
        if beyond.mean() > 0:
            doubt = f"{name} is worse than its margin allows"
            if n >= evidence.FIRST and beyond.mean() > evidence.HOPE * beyond.std(ddof=1) / n**0.5:
                return "refused", doubt
    if MEMORISATION in terms.guards and (spaces := metrics.copied(challenger[-1].scores)):
        return "refused", f"copies train images ({', '.join(spaces)})"
    if accepts[-1] and not doubt:
        return "accepted", ""
    if n == terms.seeds.most:
        return "undecided", doubt or f"{n} seeds were not enough"
    if hopeless[-1] and not accepts[-1]:
        return "refused", f"{terms.seeds.most} seeds would not be enough even if it is better than it looks"
    return None
