"""How an attempt ends: at the first seed at which the records of both sides decide. A function of the records, so that
whoever reads the log can judge again.

**Guards.** The losses beyond the margin (``metrics.margin``) in a guarded metric have an e-value of their own. An entry
is refused when it reaches 1 / error: so a guard refuses an entry that is worse by the margin or less with a chance of
at most ``error``. While it is above 1, the entry is not accepted yet; at the most seeds it is. An entry is also refused
if a challenger copies train images under the guard ``memorisation``, loses more on one seed than it gains on all
(``evidence.collapses``), or is worse in another eye or in the recall (``Known.list_against``). So guards can only
refuse, and the share of false rungs stays below the error. With kind ``target``, where the champion does not run, its
mean is that of the attempt that made it, and the base is scored on ``seeds.fewest`` seeds of its own: the noise of that
mean can double the guard's error.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TypeAlias

import numpy as np

from ddpm.ladder.log import End, Outcome
from ddpm.ladder.terms import CHALLENGER, CHAMPION, MEMORISATION, Contest
from ddpm.referee import metrics
from ddpm.runs.record import Record
from ddpm.verdicts import evidence
from ddpm.verdicts.arms import Arm, Pair
from ddpm.verdicts.evidence import Evidence
from ddpm.verdicts.statistics import Array

Records: TypeAlias = Sequence[Record]  # by seed
Means: TypeAlias = Mapping[str, float]  # by metric


def judge(
    contest: Contest, of: str, rule: Evidence, needed: float, usual: Means, champion: Records, challenger: Records
) -> tuple[End, bool]:
    """How the attempt ``of`` ends, at the first seed that decides; or how it stands, and that more seeds are needed.

    rule, needed: the evidence that decides it, and the e-value at which it is accepted. usual: the champion's mean of
    each guarded metric, where it does not run.

    Raises UserError if a side ignores the seed: the same run again is no evidence.
    """
    terms, sides = contest.terms, {CHAMPION: champion, CHALLENGER: challenger}
    contest.known.check_distinct([Arm(side, {}, {run.seed or 0: run for run in runs}) for side, runs in sides.items()])
    end = End(of=of, outcome="undecided", reason="", champion=(), challenger=())
    for n, last in enumerate(challenger if terms.kind == "target" else challenger[: len(champion)], 1):
        diverged = next((run for run in (last, *champion[n - 1 : n]) if run.diverged), None)
        scored = challenger[: n - 1] if diverged else challenger[:n]
        before = champion[: len(scored)]
        own, other = (tuple(run.scores[terms.primary] for run in side) for side in (before, scored))
        guards = metrics.means([run.scores for run in scored], terms.guard_metrics)
        end = end.model_copy(update={"champion": own, "challenger": other, "guards": guards})
        outcome: Outcome | None
        if diverged:
            reason = f"seed {diverged.seed}: {diverged.diverged}"
            outcome, reason = ("refused", reason) if diverged is last else ("undecided", f"the champion, {reason}")
        else:
            outcome, reason = _decide(contest, rule, needed, usual, end, before, scored)
        if outcome:
            return end.model_copy(update={"outcome": outcome, "reason": reason}), True
    return end, False


def _decide(
    contest: Contest, rule: Evidence, needed: float, usual: Means, end: End, champion: Records, challenger: Records
) -> tuple[Outcome | None, str]:
    """What all seeds of an attempt show together, and why; None if more are needed."""
    (before, after), seeds = scores(contest, end), contest.terms.seeds
    doubt, refuses = _heed_guards(contest, [run.scores for run in champion] or [usual] * len(after), challenger)
    if contest.terms.deterministic:  # one run of each side decides
        return ("accepted" if after[0] > before[0] and not doubt else "refused"), doubt or "one run decides"
    look = rule.look(before, after, needed, seeds.fewest, seeds.most)
    accepts, hopeless = (bool(each[-1]) for each in look)
    is_last = len(after) == seeds.most
    if len(after) >= seeds.fewest and evidence.collapses(after - before)[-1]:
        return "refused", "its worst loss exceeds the sum of its gains"
    if hopeless and not (accepts or is_last):
        return "refused", f"even a larger effect would hardly be proved by {seeds.most} seeds"
    if accepts and champion and not refuses:
        pair = Pair(CHAMPION, CHALLENGER, tuple(champion), tuple(challenger))
        if against := contest.known.list_against(pair, "better"):
            refuses, doubt = True, f"mixed: {' and '.join(against)}"
    if refuses:
        return "refused", doubt
    if is_last and not accepts:
        return "undecided", f"{len(after)} seeds were not enough"
    return ("accepted" if accepts and (is_last or not doubt) else None), doubt


def scores(contest: Contest, end: End) -> tuple[Array, Array]:
    """What the champion, or the target, and the challenger scored, by seed, signed so that higher is better: (n,)."""
    target = [contest.terms.target or 0.0] * len(end.challenger)
    before = end.champion if contest.terms.kind == "score" else target
    return contest.gain(1.0) * np.array(before), contest.gain(1.0) * np.array(end.challenger)


def _heed_guards(contest: Contest, champion: Sequence[Means], challenger: Records) -> tuple[str, bool]:
    """What a guard says against accepting, empty if none does; and whether that refuses the entry. champion: its scores
    by seed."""
    doubt = ""
    if MEMORISATION in contest.terms.guards and (spaces := metrics.find_copies(challenger[-1].scores)):
        return f"copies train images ({', '.join(spaces)})", True
    for name in contest.terms.guard_metrics:
        pairs = [(before[name], run.scores[name]) for before, run in zip(champion, challenger, strict=True)]
        losses = np.array([contest.gain(before - after, name) for before, after in pairs])
        log_e = float(evidence.log_e(losses - contest.known.margin(name, fmean(before for before, _ in pairs)))[-1])
        if log_e > 0:
            doubt = f"{name} is worse by more than its margin (e-value {math.exp(log_e):.3g})"
        if log_e >= -math.log(contest.terms.error):
            return doubt, True
    return doubt, False
