"""The verdict of a study's records, look by look, for each arm against the baseline.

``claim: best``: few tuning seeds often choose a value that is not an arm's best, and then a true verdict about the
values chosen may be false about the best ones. Which values matter depends on the outcome. Take a metric of which less
is better:

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

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from ddpm.runs.record import Record
from ddpm.study.ledger import Ledger
from ddpm.study.plan import Experiment, Study
from ddpm.verdicts import comparison, curves, metrics, pairing, sensitivity, verdict
from ddpm.verdicts.comparison import Judgement
from ddpm.verdicts.pairing import Arm
from ddpm.verdicts.sequential import Design
from ddpm.verdicts.tuning import Tried, named
from ddpm.verdicts.verdict import Outcome, Rules, Verdict

# outcome -> the sides of which every possible value has to give it
VARYING = {"better": ("baseline",), "worse": ("arm",), "equivalent": ("baseline", "arm")}


def judge(ledger: Ledger) -> Judgement:
    """The verdict at the latest look that is complete for the open arms. Runs nothing.

    Raises UserError if runs were not scored in the same way, or differ in what ``plan.may_differ`` does not name.
    """
    ledger.update()
    study, arms = ledger.study, ledger.arms()
    judgement = of_arms(study, arms)
    if study.claims_best:
        judgement = claimed(study, judgement, ledger.runs(study.experiments(kind="best")), ledger.tried)
    primary = [pair for pair in judgement.verdicts if pair.metric == judgement.primary]
    looks = {pair.arm: pair.look for pair in primary}
    revisions = sorted({run.revision[:10] for arm in arms for run in arm.runs.values() if run.revision})
    notes = (
        *sensitivity.warnings(study.plan.primary, study.config),
        *judgement.notes,
        *(f"left out: {reason}" for reason in ledger.refused.values()),
        f"runs of commit {', '.join(revisions) or 'unknown'}, by the plan {study.hash}",
    )
    learned = curves.curves(arms, looks, rules(study, [judgement.primary]))
    return replace(judgement, curves=learned, tuning=ledger.tried, notes=notes)


def missing(ledger: Ledger, judgement: Judgement, failed: Collection[str] = ()) -> tuple[int | None, list[Experiment]]:
    """The experiments to run next: those of tuning, then those up to the first look, in seeds, at which an open arm has
    no run yet. None is the look of tuning, and of nothing.

    failed: names of experiments that are not tried again. Who needs one of them waits for nothing any more.
    """
    study = ledger.study
    if tuning := [run for run in ledger.missing(study.experiments(kind="tuning")) if run.name not in failed]:
        return None, tuning
    lost = {(run.arm, run.place) for run in study.experiments(kind="best") if run.name in failed}
    broken = {run.arm for run in study.experiments() if run.name in failed or study.is_open(run)}
    broken |= {waiting for waiting, arm, place in judgement.alternatives if (arm, place) in lost}
    going = set(judgement.open) - broken
    if study.baseline in going and len(going) > 1:
        points = {(arm, place) for waiting, arm, place in judgement.alternatives if waiting in going}
        for look in study.plan.looks:
            runs = [run for run in study.experiments(look) if run.arm in going]
            runs += [run for run in study.experiments(look, "best") if (run.arm, run.place) in points]
            if runs := ledger.missing(runs):
                return look, runs
    return None, []


def aim(look: int | None, left: int) -> str:
    """How many experiments are left, and for what: a look, in seeds, or tuning."""
    count = f"{left} experiment{'s' * (left != 1)}"
    return f"{count} for tuning" if look is None else f"{count} up to the look at {look} seeds"


def of_arms(study: Study, arms: Sequence[Arm]) -> Judgement:
    """The judgement of the arms' runs, the baseline's first. Each arm's looks are replayed in order, from the plan's
    first seed."""
    plan = study.plan
    planned = range(plan.first_seed, plan.first_seed + plan.looks[-1])
    arms = [arm._replace(runs={seed: arm.runs[seed] for seed in planned if seed in arm.runs}) for arm in arms]
    baseline, *others = arms
    rule = rules(study, _metrics(study, [run for arm in arms for run in arm.runs.values()]))
    verdicts = []
    for arm in others:
        pair = pairing.partners(baseline, arm)
        seeds = [run.seed for run in pair.after]
        complete = [look for look in plan.looks if seeds[:look] == [*planned[:look]]]
        verdicts += verdict.judge(pair, rule, complete) if seeds else []
    by = sorted({key for arm in arms for key in arm.values})
    judgement = comparison.judge(plan.question, plan.primary, arms, verdicts, rule.compare, by, plan.may_differ)
    primary = {one.arm: one for one in verdicts if one.metric == plan.primary}
    looks = {arm.label: primary[arm.label].look if arm.label in primary else None for arm in others}
    waiting = [arm for arm in looks if arm not in primary or primary[arm].outcome == "not yet"]
    return replace(
        judgement,
        plan=study.hash,
        open=(baseline.label, *waiting) if waiting else (),
        next_look=min((_after(study, looks[arm]) for arm in waiting), default=None),
    )


def claimed(
    study: Study,
    judgement: Judgement,
    others: Mapping[tuple[str, int | None], Mapping[int, Record]],
    tried: Sequence[Tried],
) -> Judgement:
    """The judgement with ``claim: best``: an arm that is decided at the chosen values is decided at its best, or it
    waits for runs at other values, or the verdict does not hold there.

    others: runs at other values, by arm and place in the grid, then by seed.
    """
    arms = {arm.label: arm for arm in judgement.arms}
    verdicts: list[Verdict] = []
    needed: list[tuple[str, str, int]] = []
    looks = [judgement.next_look] if judgement.next_look else []
    for at_chosen in judgement.verdicts:
        if at_chosen.metric != judgement.primary or at_chosen.outcome not in VARYING:
            verdicts.append(at_chosen)
            continue
        pairs = {}
        for side in VARYING[at_chosen.outcome]:
            label = getattr(at_chosen, side)
            for place, value in enumerate(row for row in tried if row.arm == label):
                if value.possible and not value.chosen:
                    runs = dict(others.get((label, place), {}))
                    sides = {name: arms[getattr(at_chosen, name)] for name in ("baseline", "arm")}
                    sides[side] = Arm(label, {**arms[label].values, **value.values}, runs)
                    unseen = replace(at_chosen, outcome="not yet", look=None)
                    pairs[label, place] = next(iter(of_arms(study, [*sides.values()]).verdicts), unseen)
        verdicts.append(_held(study, at_chosen, pairs))
        if verdicts[-1].outcome == "not yet":
            ahead = {at: pair.look for at, pair in pairs.items() if pair.outcome == "not yet"}
            needed += [(at_chosen.arm, *at) for at in ahead]
            looks += [_after(study, look) for look in ahead.values()]
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
    p = max(one.p or 0.0 for one in (decided, *pairs.values()))
    return replace(decided, at_best=True, p=p, reason="; ".join(filter(None, [decided.reason, held])))


def _after(study: Study, look: int | None) -> int:
    """The look after that one; of None, the first."""
    return next(later for later in study.plan.looks if later > (look or 0))


def rules(study: Study, names: Sequence[str]) -> Rules:
    """How the plan's arms are judged, in the metrics ``names``, the primary one first."""
    design = Design(study.plan.looks)
    return Rules(study.config.compare, names, len(study.plan.arms) - 1, design, study.claims_best)


def power(study: Study, effect: float) -> dict[int, float]:
    """The chance of a verdict in the primary metric by each look, for a true effect in standard deviations of the
    paired differences.

    For one arm, whatever the others do, by the t test alone: the sign-flip test nearly always agrees. A margin, or a
    KID that disagrees, lowers it.
    """
    rule = rules(study, [study.plan.primary])
    chances = rule.design.power(rule.alpha / rule.family(study.plan.primary), effect)
    return dict(zip(study.plan.looks, chances.tolist(), strict=True))


def _metrics(study: Study, runs: Sequence[Record]) -> list[str]:
    """The primary metric, then all others that every run has."""
    shared = set.intersection(*(set(run.scores) for run in runs)) if runs else set()
    primary = study.plan.primary
    return [primary, *(name for name in metrics.judged(shared) if name != primary)]
