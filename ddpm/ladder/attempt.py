"""An attempt: seeds are run until its e-value suffices, it is hopeless, or the most seeds are reached
(ddpm/ladder/outcome.py)."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable
from contextlib import closing

from ddpm.base.errors import UserError, plural
from ddpm.ladder import climb, evidence
from ddpm.ladder.climb import Attempt, Climb
from ddpm.ladder.log import BASE, Try
from ddpm.ladder.terms import Changes, Contest
from ddpm.study import revision

Say = Callable[[str], None]


def begin(
    contest: Contest, entry: str, changes: Changes, *, source: str, say: Say, allow_null: bool = False
) -> Attempt:
    """The entry's open attempt on the champion, or a new one. Raises UserError if it may not try: nothing is spent."""
    with climb.hold(contest) as state:
        on = state.champion.key if state.champion else BASE
        cost = contest.check(changes, state.changes(on), source, allow_null)
        if not state.attempts:
            contest.check_images()
        for old in state.attempts:
            if old.end is None and old.begin.on == on and old.begin.changes == changes:
                _announce(contest, "accepted", old.needed, say)
                return old
        _announce(contest, "accepted", state.next_needed, say)
        revision.check_committed([str(contest.path), *revision.CODE])
        number = len(state.attempts) + 1
        begun = {"entry": entry, "changes": dict(changes), "on": on, "number": number, "cost": cost}
        line = Try.model_validate({**contest.identity, **begun, "needed": state.next_needed})
        return _append(state, line).attempts[-1]


def challenge(contest: Contest, rung: int, say: Say) -> Attempt:
    """The rung's open challenge, or a new one. Raises UserError if no such rung stands."""
    with climb.hold(contest) as state:
        standing = {attempt.rung: attempt for attempt in state.rungs if attempt.stands}
        if rung not in standing:
            raise UserError(
                f"{contest.path}: no rung {rung} stands; allowed: {', '.join(map(str, standing)) or 'none'}"
            )
        mine = [again for again in state.challenges if again.begin.challenges == standing[rung].key]
        _announce(contest, "it holds", 1 / contest.terms.error, say)
        if mine and mine[-1].end is None:
            return mine[-1]
        own = {"number": len(mine) + 1, "challenges": standing[rung].key, "needed": None}
        return _append(state, standing[rung].begin.model_copy(update=own)).challenges[-1]


def _append(state: Climb, line: Try) -> Climb:
    """Begin an attempt, with seeds that nobody can have known. Raises UserError if an earlier one is not committed."""
    check_committed(state.contest)
    return climb.append(state, line.model_copy(update={"seed": secrets.randbelow(2**40)}))


def check_committed(contest: Contest) -> None:
    """Raises UserError unless the log is what was committed last."""
    why = f"`git add {contest.folder}` and commit, so that no attempt can be forgotten before the next begins"
    revision.check_committed([str(contest.log)], why)


def _announce(contest: Contest, end: str, needed: float, say: Say) -> None:
    """Print how many seeds an effect needs for that ``end``. Raises UserError if the most seeds cannot give the e-value
    ``needed``."""
    most = contest.terms.seeds.most
    if (fewest := evidence.fewest(needed)) > most:
        raise UserError(
            f"{contest.path}: seeds.most: an e-value of {needed:.0f} is needed, which {most} seeds cannot give; "
            f"allowed: {fewest} or more, in a ladder of another name"
        )
    counts = {effect: evidence.seeds_needed(effect, needed, most) for effect in (1, 2, 3)}
    shown = ", ".join(f"{effect} sd {count or f'more than {most}'}" for effect, count in counts.items())
    say(
        f"{end} at an e-value of {needed:.0f}, so after {max(fewest, contest.terms.seeds.fewest)} seeds at the "
        f"earliest; seeds that half of all attempts need at an effect of {shown}"
    )


def finish(contest: Contest, attempt: Attempt, slots: int | None, say: Say, commit: str | None = None) -> Climb:
    """Run the attempt to its end on ``slots``, and return the climb with it. After any stop it continues. commit: whose
    code runs, if not the one that is checked out."""
    state, terms, commit = climb.read(contest), contest.terms, commit or revision.head()
    if terms.kind == "target" and terms.guard_metrics and attempt.begin.on == BASE:
        for _ in state.runs_of_base(commit).run(terms.seeds.fewest, slots, say):
            pass
    runs, seeds = state.runs(attempt, commit), 0
    end, decides = state.judge(attempt, runs)
    with closing(runs.run(terms.seeds.most, slots, say)) as ended:
        while not decides:
            if (scored := next(ended)) > seeds:
                seeds = scored
                end, decides = state.judge(attempt, runs)
                e = math.exp(state.log_e(end))
                tried = plural(len(end.challenger), "seed")
                say(f"{attempt.begin.entry}: {tried}, e-value {e:.3g} of {attempt.needed:.0f}")
    with climb.hold(contest) as state:
        return climb.append(state, end)
