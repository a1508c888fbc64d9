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
    needed: set[tuple[str, str, int]] = set()
    waiting, looks = set(findings.open), [findings.next_look] if findings.next_look else []
    for each in findings.findings:
        if each.metric != findings.primary or each.outcome not in VARYING:
            judged.append(each)
            continue
        pairs = _pairs(study, each, runs, others, tried)
        judged.append(_held(study, each, pairs))
        if judged[-1].outcome == "not yet":
            waiting |= {study.baseline, each.variant}
            for (arm, place), pair in pairs.items():
                if pair is None or pair.outcome == "not yet":
                    needed.add((each.variant, arm, place))
                    seen = pair.look or 0 if pair else 0
                    looks.append(next(look for look in study.plan.looks if look > seen))
    return replace(
        findings,
        findings=tuple(judged),
        open=tuple(name for name in study.plan.variants if name in waiting),
        next_look=min(looks, default=None),
        alternatives=tuple(sorted(needed)),
    )


def _pairs(
    study: Study,
    decided: Finding,
    runs: Mapping[str, Mapping[int, Run]],
    others: Mapping[tuple[str, int | None], Mapping[int, Run]],
    tried: Sequence[Tried],
) -> dict[tuple[str, int], Finding | None]:
    """For each other value that could overturn the outcome, by arm and place: what the two sides come to with it."""
    pairs = {}
    for arm in (getattr(decided, side) for side in VARYING[decided.outcome]):
        for place, value in enumerate(each for each in tried if each.variant == arm):
            if value.possible and not value.chosen:
                asked = study.settled({**study.chosen, arm: study.points[arm][place]})
                two = {name: runs[name] for name in (decided.baseline, decided.variant)}
                found = verdict.judge(asked, two | {arm: others.get((arm, place), {})}).findings
                pairs[arm, place] = next((each for each in found if each.metric == decided.metric), None)
    return pairs


def _held(study: Study, decided: Finding, pairs: Mapping[tuple[str, int], Finding | None]) -> Finding:
    """The finding at the chosen values, with what is known about the others."""
    outcomes: dict[str, Outcome] = {
        f"{arm} at {named(study.points[arm][place].values)}": pair.outcome if pair else "not yet"
        for (arm, place), pair in pairs.items()
    }
    if others := set(outcomes.values()) - {decided.outcome}:
        # what can no longer hold needs no more runs; what is unlikely to be decided is not worth them
        outcome: Outcome = "inconclusive"
        if others <= {"futile", "not yet"}:
            outcome = "futile" if "futile" in others else "not yet"
        said = "; ".join(f"{other} with {where}" for where, other in outcomes.items() if other != decided.outcome)
        return replace(decided, outcome=outcome, reason=f"{decided.outcome} at the values chosen, but {said}")
    held = f"also with {', '.join(outcomes)}" if outcomes else "tuning leaves no other value possible"
    p = max([decided.p or 0.0, *(pair.p or 0.0 for pair in pairs.values() if pair)])
    return replace(decided, at_best=True, p=p, reason="; ".join(filter(None, [decided.reason, held])))
