"""An attempt: seeds are run until its e-value suffices, it is hopeless, or the most seeds are reached.

**Guards.** The losses beyond the margin (``metrics.margin``) in a guarded metric have an e-value of their own. An entry
is refused when it reaches 1 / error: so a guard refuses an entry that is worse by the margin or less with a chance of
at most ``error``. While it is above 1, the entry is not accepted yet; at the most seeds it is. An entry is also refused
if a challenger copies train images under the guard ``memorisation``, or loses more on one seed than it gains on all
(``evidence.collapses``). So guards can only refuse, and the share of false rungs stays below the error. With kind
``target``, where the champion does not run, its mean is that of the attempt that made it, and the base is scored on
``seeds.fewest`` seeds of its own: the noise of that mean can double the guard's error.

**Challenges.** A rung falls if the fresh seeds of all its challenges contradict half of what its attempt gained
(``evidence.falls``): so one that is at least half as good as it looked ever falls that way with a chance of at most
``error``. It also falls if a guard refuses it, for which challenge k has error / 2^k, or if a fresh loss exceeds the
gains of the attempt and the challenge. Otherwise it stands.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from statistics import fmean

import numpy as np

from ddpm.base.errors import UserError
from ddpm.ladder import climb, evidence
from ddpm.ladder.climb import BASE, Attempt, Climb, End, Outcome, Try, means
from ddpm.ladder.pairs import Runs
from ddpm.ladder.terms import CHALLENGER, CHAMPION, MEMORISATION, Changes, Contest, Terms
from ddpm.runs.record import Record
from ddpm.study import revision
from ddpm.verdicts import metrics, pairing
from ddpm.verdicts.pairing import Arm
from ddpm.verdicts.statistics import Array

Say = Callable[[str], None]


def begin(contest: Contest, entry: str, changes: Changes, allow_null: bool, source: str, say: Say) -> Attempt:
    """The entry's open attempt on the champion, or a new one. Raises UserError if it may not try: nothing is spent."""
    with climb.opened(contest) as state:
        on = state.champion.key if state.champion else BASE
        cost = contest.check(changes, state.changes(on), source, allow_null)
        for old in state.attempts:
            if old.end is None and old.begin.on == on and old.begin.changes == changes:
                _announce(contest, old.needed, say)
                return old
        _announce(contest, state.next_needed, say)
        revision.check_committed([str(contest.path), *revision.CODE])
        number = len(state.attempts) + 1
        begun = {**contest.identity, "entry": entry, "changes": dict(changes), "on": on, "number": number, "cost": cost}
        return _append(state, Try.model_validate(begun)).attempts[-1]


def challenge(contest: Contest, rung: int, say: Say) -> Attempt:
    """The rung's open challenge, or a new one. Raises UserError if no such rung stands."""
    with climb.opened(contest) as state:
        standing = {attempt.rung: attempt for attempt in state.rungs if attempt.stands}
        if rung not in standing:
            raise UserError(
                f"{contest.path}: no rung {rung} stands; allowed: {', '.join(map(str, standing)) or 'none'}"
            )
        mine = [again for again in state.challenges if again.begin.challenges == standing[rung].key]
        _announce(contest, 1 / contest.terms.error, say)
        if mine and mine[-1].end is None:
            return mine[-1]
        line = standing[rung].begin.model_copy(update={"number": len(mine) + 1, "challenges": standing[rung].key})
        return _append(state, line).challenges[-1]


def _append(state: Climb, line: Try) -> Climb:
    """Begin an attempt, with seeds that nobody can have known. Raises UserError if an earlier one is not committed."""
    check_committed(state)
    return climb.append(state, line.model_copy(update={"seed": secrets.randbelow(2**40)}))


def check_committed(state: Climb) -> None:
    """Raises UserError unless the last commit has every line of the log."""
    if not state.is_committed:
        raise UserError(
            f"{state.contest.log}: has lines that are not committed: `git add {state.contest.folder}` and commit, so "
            "that no attempt can be forgotten before the next begins"
        )


def _announce(contest: Contest, needed: float, say: Say) -> None:
    """Print how many seeds an effect needs. Raises UserError if the most seeds cannot give the e-value ``needed``."""
    most = contest.terms.seeds.most
    if (fewest := evidence.fewest(needed)) > most:
        raise UserError(
            f"{contest.path}: seeds.most: an e-value of {needed:.0f} is needed, which {most} seeds cannot give; "
            f"allowed: {fewest} or more, in a ladder of another name"
        )
    counts = {effect: evidence.seeds_needed(effect, needed, most) for effect in (1, 2, 3)}
    shown = ", ".join(f"{effect} sd {count or f'more than {most}'}" for effect, count in counts.items())
    say(
        f"accepted at an e-value of {needed:.0f}, so after {max(fewest, contest.terms.seeds.fewest)} seeds at the "
        f"earliest; seeds that half of all attempts need at an effect of {shown}"
    )


def runs_of(state: Climb, attempt: Attempt, slots: int | None = None, commit: str | None = None) -> Runs:
    """The attempt's runs."""
    line, champion = attempt.begin, state.changes(attempt.begin.on)
    arms: dict[str, Changes] = {CHAMPION: champion} if state.contest.terms.kind == "score" else {}
    arms[CHALLENGER] = {**champion, **line.changes}
    return Runs(state.contest, attempt.key, state.first_seed(line), arms, slots, commit)


def finish(contest: Contest, attempt: Attempt, slots: int | None, say: Say, commit: str | None = None) -> Climb:
    """Run the attempt to its end on ``slots``, and return the climb with it. After any stop it continues. commit: whose
    code runs, if not the one that is checked out."""
    state, terms, line = climb.read(contest), contest.terms, attempt.begin
    runs, before = runs_of(state, attempt, slots, commit), 0
    usual = _usual(state, line.on, slots, say, commit) if terms.kind == "target" else {}
    end = judged(state, attempt, runs, usual)
    with closing(runs.run(terms.seeds.most, say)) as ended:
        while end is None:
            if (seeds := next(ended)) > before:
                before, end = seeds, judged(state, attempt, runs, usual)
                scored = [record for record in runs.scored(CHALLENGER)[:seeds] if not record.diverged]
                e = state.log_e(_end(terms, attempt, runs.scored(CHAMPION)[: len(scored)], scored))
                say(f"{line.entry}: {len(scored)} seeds, e-value {math.exp(e):.3g} of {attempt.needed:.0f}")
    with climb.opened(contest) as state:
        return climb.append(state, end)


def _usual(state: Climb, on: str, slots: int | None, say: Say, commit: str | None) -> Mapping[str, float]:
    """The champion's mean of each guarded metric, where it does not run with the challenger."""
    terms = state.contest.terms
    if on != BASE and (end := state.find(on).end):
        return end.guards
    if terms.guarded:
        runs = Runs(state.contest, "base", state.contest.seed({}, 0), {CHAMPION: {}}, slots, commit)
        for _ in runs.run(terms.seeds.fewest, say):
            pass
        return means(terms.guarded, runs.scored(CHAMPION))
    return {}


def judged(state: Climb, attempt: Attempt, runs: Runs, usual: Mapping[str, float]) -> End | None:
    """How the attempt ends, at the first seed that decides; None if more are needed. usual: the champion's means.
    Raises UserError if a side ignores the seed: the same run again is no evidence."""
    terms, challenger, champion = state.contest.terms, runs.scored(CHALLENGER), runs.scored(CHAMPION)
    sides = {CHAMPION: champion, CHALLENGER: challenger}
    pairing.check_distinct(Arm(side, {}, {run.seed or 0: run for run in of}) for side, of in sides.items())
    for n in range(1, (min(len(challenger), len(champion)) if terms.kind == "score" else len(challenger)) + 1):
        last = challenger[n - 1]
        scored = challenger[: n - 1] if last.diverged else challenger[:n]
        before = champion[: len(scored)]
        end = _end(terms, attempt, before, scored)
        if last.diverged:
            return end.model_copy(update={"reason": f"seed {last.seed}: {last.diverged}"})
        gains = state.gains(end)
        looks = evidence.looks(gains, attempt.needed, terms.seeds.fewest, terms.seeds.most)
        accepts, hopeless = (bool(seeds[-1]) for seeds in looks)
        error = terms.error / 2 ** (attempt.begin.number if attempt.begin.challenges else 0)
        doubt, refuses = _guarded(state.contest, scored, before, usual, error)
        against = _against(state, attempt, gains)
        if hopeless and not (accepts or attempt.begin.challenges or n == terms.seeds.most):
            against = f"even if it is better than it looks, {terms.seeds.most} seeds would hardly be enough"
        doubt, refuses = against or doubt, refuses or bool(against)
        outcome: Outcome = "refused"
        if not refuses:
            if not accepts and n == terms.seeds.most:
                outcome, doubt = "undecided", f"{n} seeds were not enough"
            elif accepts and (not doubt or n == terms.seeds.most):
                outcome = "accepted"
            else:
                continue
        return end.model_copy(update={"outcome": outcome, "reason": doubt})
    return None


def _end(terms: Terms, attempt: Attempt, champion: Sequence[Record], challenger: Sequence[Record]) -> End:
    return End(
        of=attempt.key,
        outcome="refused",
        reason="",
        champion=tuple(record.scores[terms.primary] for record in champion),
        challenger=tuple(record.scores[terms.primary] for record in challenger),
        guards=means(terms.guarded, challenger),
    )


def _against(state: Climb, attempt: Attempt, gains: Array) -> str:
    """What the gains, (n,), say against the entry, or against the rung that it challenges; empty if nothing."""
    terms, challenges = state.contest.terms, attempt.begin.challenges
    if challenges and (claimed := state.find(challenges).end):
        own = state.gains(claimed)
        again = [one.end for one in state.challenges if one.begin.challenges == challenges and one.end]
        fresh = np.concatenate([*map(state.gains, again), gains])
        if evidence.falls(own, fresh, terms.error):
            return f"{len(fresh)} fresh seeds contradict half of its gain of {own.mean():.3g}"
        gains = np.concatenate([own, gains])
    if len(gains) >= terms.seeds.fewest and evidence.collapses(gains)[-1]:
        return "its worst loss exceeds the sum of its gains"
    return ""


def _guarded(
    contest: Contest,
    challenger: Sequence[Record],
    champion: Sequence[Record],
    usual: Mapping[str, float],
    error: float,
) -> tuple[str, bool]:
    """What a guard says against accepting, empty if none does; and whether that refuses the entry. error: the chance
    that a metric refuses an entry that does no harm."""
    doubt, n = "", len(challenger)
    if MEMORISATION in contest.terms.guards and (spaces := metrics.copied(challenger[-1].scores)):
        return f"copies train images ({', '.join(spaces)})", True
    for name in contest.terms.guarded:
        before = [record.scores[name] for record in champion] or [usual[name]] * n
        losses = [metrics.gain(name, b - a.scores[name]) for a, b in zip(challenger, before, strict=True)]
        beyond = np.array(losses) - metrics.margin(name, fmean(before), contest.config.compare)
        if (log_e := float(evidence.log_e(beyond)[-1])) > 0:
            doubt = f"{name} is worse by more than its margin (e-value {math.exp(log_e):.3g})"
            if log_e >= -math.log(error):
                return doubt, True
    return doubt, False
