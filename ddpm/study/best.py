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

The tests have one more way to err: tuning may have excluded the best value itself. ddpm/study/tuning.py bounds the
chance of that by EXCLUDING times the error rate, for all arms together, and the tests of the primary metric get that
much less (ddpm/study/verdict.py). So the table is false as rarely as any other. The secondary metrics' verdicts are
about the values chosen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ddpm.compare.runs import Run
from ddpm.compare.verdict import Outcome
from ddpm.study import verdict
from ddpm.study.grid import named
from ddpm.study.plan import Study
from ddpm.study.tuning import Tried
from ddpm.study.verdict import Finding, Findings

# outcome -> the sides of which every possible value has to give it
VARYING = {"better": ("baseline",), "worse": ("variant",), "equivalent": ("baseline", "variant")}


def claimed(
    study: Study,
    findings: Findings,
    runs: Mapping[str, Mapping[int, Run]],
    others: Mapping[tuple[str, int | None], Mapping[int, Run]],
    tried: Sequence[Tried],
) -> Findings:
    """The findings with ``claim: best``: a variant that is decided at the chosen values is decided at its best, or it
    waits for runs at other values, or the verdict does not hold there.

    runs: at the chosen values, by arm and seed. others: at other values, by arm and place in the grid, then by seed.
    """
    if not study.claims_best:
        return findings
    judged: list[Finding] = []
    needed: list[tuple[str, str, int]] = []
    looks = [findings.next_look] if findings.next_look else []
    for each in findings.findings:
        varying = VARYING.get(each.outcome, ()) if each.metric == findings.primary else None
        pairs = {}
        for arm in (getattr(each, side) for side in varying or ()):
            for place, value in enumerate(one for one in tried if one.variant == arm):
                if value.possible and not value.chosen:
                    asked = study.settled({**study.chosen, arm: study.points[arm][place]})
                    two = {each.baseline: runs[each.baseline], each.variant: runs[each.variant]}
                    found = verdict.judge(asked, two | {arm: others.get((arm, place), {})}).findings
                    unseen = replace(each, outcome="not yet", look=None)
                    pairs[arm, place] = next((one for one in found if one.metric == each.metric), unseen)
        judged.append(_held(study, each, pairs) if varying else each)
        if varying and judged[-1].outcome == "not yet":
            ahead = {at: pair.look or 0 for at, pair in pairs.items() if pair.outcome == "not yet"}
            needed += [(each.variant, *at) for at in ahead]
            looks += [next(look for look in study.plan.looks if look > seen) for seen in ahead.values()]
    waiting = {study.baseline, *findings.open, *(variant for variant, _, _ in needed)} if looks else set()
    return replace(
        findings,
        findings=tuple(judged),
        open=tuple(name for name in study.plan.variants if name in waiting),
        next_look=min(looks, default=None),
        alternatives=tuple(needed),
    )


def _held(study: Study, decided: Finding, pairs: Mapping[tuple[str, int], Finding]) -> Finding:
    """The finding at the chosen values, with what is known about the others. pairs: by arm and place in the grid."""
    outcomes = {f"{arm} at {named(study.points[arm][at].values)}": pair.outcome for (arm, at), pair in pairs.items()}
    if others := set(outcomes.values()) - {decided.outcome}:
        # what can no longer hold needs no more runs; what is unlikely to be decided is not worth them
        ahead: Outcome = "futile" if "futile" in others else "not yet"
        said = "; ".join(f"{other} with {where}" for where, other in outcomes.items() if other != decided.outcome)
        outcome: Outcome = ahead if others <= {"futile", "not yet"} else "inconclusive"
        return replace(decided, outcome=outcome, reason=f"{decided.outcome} at the values chosen, but {said}")
    held = f"also with {', '.join(outcomes)}" if outcomes else "tuning leaves no other value possible"
    p = max(each.p or 0.0 for each in (decided, *pairs.values()))
    return replace(decided, at_best=True, p=p, reason="; ".join(filter(None, [decided.reason, held])))
