"""An attempt: seeds are run until its e-value suffices, it is hopeless, or the most seeds are reached
(ddpm/ladder/outcome.py)."""

import math
import secrets
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import replace

from ddpm.arms import revision
from ddpm.arms.question import Question
from ddpm.base.errors import UserError, plural
from ddpm.ladder import climb, log
from ddpm.ladder.climb import Attempt, Climb
from ddpm.ladder.log import BASE, End, Try
from ddpm.ladder.terms import Changes, Contest
from ddpm.verdicts.evidence import Evidence

Say = Callable[[str], None]


def begin(
    contest: Contest, entry: str, changes: Changes, *, source: str, say: Say, allow_null: bool = False
) -> Attempt:
    """The entry's open attempt on the champion, or a new one. Raises UserError if it may not try: nothing is spent."""
    with climb.hold(contest) as state:
        contest.check(changes, state.changes, source, allow_null)
        if not state.attempts:
            contest.check_images()
        if last := state.open:
            if not contest.is_same(last.begin.changes, changes):
                raise UserError(
                    f"{contest.log}: attempt {last.number}, {last.begin.entry}, has not ended: run it again to "
                    f"continue, or `ddpm ladder withdraw {contest.name}`"
                )
            _announce(contest, last.evidence, last.needed, say)
            return last
        _announce(contest, contest.evidence(entry), state.next_needed, say)
        contest.maker.check_committed([str(contest.path)])
        begun = {"entry": entry, "changes": dict(changes), "on": state.on, "evidence": contest.evidence(entry).name}
        line = {**contest.identity, **begun, "nonce": secrets.token_hex(8)}
        return climb.append(state, Try.model_validate(line)).attempts[-1]


def withdraw(contest: Contest) -> Climb:
    """End the open attempt without a result, and return the climb. Raises UserError if none is open."""
    with climb.hold(contest) as state:
        if not state.open:
            raise UserError(f"{contest.log}: no attempt is open")
        end = End(of=state.open.key, outcome="withdrawn", reason="", champion=(), challenger=())
        return climb.append(state, end)


def check_committed(contest: Contest) -> None:
    """Raises UserError unless the log is what was committed last, or an attempt is open. A command checks it before its
    first attempt, and may have all of its own alone."""
    *_, last = [None, *log.read(contest).values()]
    if not isinstance(last, Try):
        why = f"`git add {contest.folder}` and commit, so that no attempt can be forgotten before the next begins"
        revision.check_committed([str(contest.log)], why)


def _announce(contest: Contest, rule: Evidence, needed: float, say: Say) -> None:
    """Print what is needed. Raises UserError if the most seeds cannot give the e-value ``needed``."""
    if contest.terms.deterministic:
        say("accepted if one run is better")
        return
    most = contest.terms.seeds.most
    if (fewest := rule.fewest(needed)) > most:
        raise UserError(
            f"{contest.path}: seeds.most: an e-value of {needed:.0f} is needed, which {most} seeds cannot give; "
            f"allowed: {fewest} or more, in a ladder of another name"
        )
    earliest = max(fewest, contest.terms.seeds.fewest)
    say(f"to be accepted it needs an e-value of {needed:.0f}, so {earliest} seeds or more")


def finish(contest: Contest, attempt: Attempt, slots: int | None, say: Say, show: Callable[[Climb], None]) -> Climb:
    """Run the attempt to its end on ``slots`` and, if it is accepted, the longer one that is due; return the climb with
    them. After any stop it continues. show: gets the climb after each seed, with the end that the attempt would
    have."""
    state, terms = climb.read(contest), contest.terms
    if terms.kind == "target" and terms.guard_metrics and attempt.begin.on == BASE:
        for _ in _run(state.runs_of_base(), terms.seeds.fewest, slots, say):
            pass
    (end, decides), seeds = state.judge(attempt), 0
    with closing(_run(state.runs(attempt), terms.seeds.most, slots, say)) as ended:
        while not decides:
            if (scored := next(ended)) > seeds:
                seeds = scored
                end, decides = state.judge(attempt)
                e = math.exp(state.log_e(end))
                tried = plural(len(end.challenger), "seed")
                say(f"{attempt.begin.entry}: {tried}, e-value {e:.3g} of {attempt.needed:.0f}")
                show(replace(state, attempts=[*state.attempts[:-1], replace(attempt, end=end)]))
    with climb.hold(contest) as before:
        state = climb.append(before, end)
    if state.due is None:
        return state
    with climb.hold(contest) as state:
        longer = state.attempts[-1]
    say(f"{attempt.begin.entry} is accepted; now the same {contest.longest:g} times as long")
    _announce(contest, longer.evidence, longer.needed, say)
    return finish(contest, longer, slots, say, show)


def _run(runs: Question, seeds: int, slots: int | None, say: Say) -> Generator[int]:
    """Make what is missing of the first seeds, seed by seed. Yields how many are scored on all sides, after each run.

    Raises UserError unless the ladder and the code are committed, and made the rows that are there; or with the reason,
    if a run fails.
    """
    runs.check_ready()
    arms = {run.arm for run in runs.planned}
    failed: dict[str, str] = {}
    for line, _ in runs.make(runs.missing(runs.planned[: seeds * len(arms)]), slots, failed):
        say(line)
        for reason in failed.values():
            raise UserError(reason)
        yield min(len(runs.leading_records(arm)) for arm in arms)
