"""``claim: best``: whether a verdict holds at each arm's best values of those tried, not only at the values chosen.

Few tuning seeds often choose a value that is not an arm's best, and then a true verdict about the values chosen may be
false about the best ones. Which values matter depends on the outcome. Take a metric of which less is better:

* **better**: the arm, at its chosen value, has to be better than the baseline at every value that tuning leaves
  possible as the baseline's best. One of these is the best, and the arm's own best can only be better than its chosen
  value. So the arm's other values do not matter.
* **worse**: the same with the sides exchanged. The arm has to be worse at every value that may be its best than the
  baseline at its chosen value.
* **equivalent**: both, because it says that neither is better by the margin: equivalent at all these pairs of values.

Each pair of values gets the verdict's own sequential tests at the level that it would have alone. This is an
intersection-union test (Berger 1982): if the claim is false, then it is false for the pair with the best value, and
unless that pair's test errs nothing is claimed. So the level needs no correction for the number of pairs, and none for
running the other values only after the chosen ones were decided, or for pairs that are decided at different looks.

The tests have one more way to err: tuning may have excluded the best value itself. ddpm/verdicts/tuning.py bounds the
chance of that by EXCLUDING times the error rate, for all arms together, and the tests of the primary metric get that
much less (ddpm/verdicts/verdict.py). So the table is false as rarely as any other. The secondary metrics' verdicts are
about the values chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from ddpm.runs.record import Record
from ddpm.study.experiments import Study
from ddpm.verdicts.comparison import Judgement
from ddpm.verdicts.pairing import Arm
from ddpm.verdicts.tuning import Tried, named
from ddpm.verdicts.verdict import Outcome, Verdict

# outcome -> the sides of which every possible value has to give it
VARYING = {"better": ("baseline",), "worse": ("arm",), "equivalent": ("baseline", "arm")}
Judge = Callable[[Study, Sequence[Arm]], Judgement]


def claimed(
    study: Study,
    judgement: Judgement,
    others: Mapping[tuple[str, int | None], Mapping[int, Record]],
    tried: Sequence[Tried],
    judge: Judge,
) -> Judgement:
    """The judgement with ``claim: best``: an arm that is decided at the chosen values is decided at its best, or it
    waits for runs at other values, or the verdict does not hold there.

    others: runs at other values, by arm and place in the grid, then by seed. judge: of a study's arms.
    """
    arms = {arm.label: arm for arm in judgement.arms}
    verdicts: list[Verdict] = []
    needed: list[tuple[str, str, int]] = []
    looks = [judgement.next_look] if judgement.next_look else []
    for at_chosen in judgement.verdicts:
        varying = VARYING.get(at_chosen.outcome, ()) if at_chosen.metric == judgement.primary else None
        pairs = {}
        for label in (getattr(at_chosen, side) for side in varying or ()):
            for place, value in enumerate(row for row in tried if row.arm == label):
                if value.possible and not value.chosen:
                    point = study.points[label][place]
                    runs = dict(others.get((label, place), {}))
                    sides = {name: arm._replace(runs={}) for name, arm in arms.items()}
                    sides |= {name: arms[name] for name in (at_chosen.baseline, at_chosen.arm)}
                    sides[label] = Arm(label, {**arms[label].values, **point.values}, runs)
                    elsewhere = judge(study.settled({**study.chosen, label: point}), list(sides.values())).verdicts
                    unseen = replace(at_chosen, outcome="not yet", look=None)
                    pairs[label, place] = next((pair for pair in elsewhere if pair.metric == at_chosen.metric), unseen)
        verdicts.append(_held(study, at_chosen, pairs) if varying else at_chosen)
        if varying and verdicts[-1].outcome == "not yet":
            ahead = {at: pair.look or 0 for at, pair in pairs.items() if pair.outcome == "not yet"}
            needed += [(at_chosen.arm, *at) for at in ahead]
            looks += [next(look for look in study.plan.looks if look > done) for done in ahead.values()]
    waiting = {study.baseline, *judgement.open, *(arm for arm, _, _ in needed)} if looks else set()
    return replace(
        judgement,
        verdicts=tuple(verdicts),
        open=tuple(name for name in study.plan.arms if name in waiting),
        next_look=min(looks, default=None),
        alternatives=tuple(needed),
    )


def _held(study: Study, decided: Verdict, pairs: Mapping[tuple[str, int], Verdict]) -> Verdict:
    """The verdict at the chosen values, with what is known about the others. pairs: by arm and place in the grid."""
    outcomes = {f"{arm} at {named(study.points[arm][at].values)}": pair.outcome for (arm, at), pair in pairs.items()}
    if others := set(outcomes.values()) - {decided.outcome}:
        # what can no longer hold needs no more runs; what is unlikely to be decided is not worth them
        ahead: Outcome = "futile" if "futile" in others else "not yet"
        said = "; ".join(f"{other} with {where}" for where, other in outcomes.items() if other != decided.outcome)
        outcome: Outcome = ahead if others <= {"futile", "not yet"} else "inconclusive"
        return replace(decided, outcome=outcome, reason=f"{decided.outcome} at the values chosen, but {said}")
    held = f"also with {', '.join(outcomes)}" if outcomes else "tuning leaves no other value possible"
    p = max(verdict.p or 0.0 for verdict in (decided, *pairs.values()))
    return replace(decided, at_best=True, p=p, reason="; ".join(filter(None, [decided.reason, held])))
