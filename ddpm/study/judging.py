"""The verdict of a study's records, look by look, for each arm against the baseline."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from ddpm.base.errors import UserError
from ddpm.runs.record import Record
from ddpm.study import best
from ddpm.study.experiments import Experiment, Study
from ddpm.study.ledger import Ledger
from ddpm.verdicts import curves, metrics, pairing, remarks, sensitivity, verdict
from ddpm.verdicts.comparison import Judgement
from ddpm.verdicts.pairing import Arm, Pair
from ddpm.verdicts.sequential import Design
from ddpm.verdicts.verdict import Rules, Verdict


def judge(ledger: Ledger) -> Judgement:
    """The verdict at the latest look that is complete for the open arms. Runs nothing.

    Raises UserError if runs were not scored in the same way, or differ in what ``plan.may_differ`` does not name.
    """
    ledger.update()
    study, arms = ledger.study, ledger.arms()
    judgement = of_arms(study, arms)
    if study.claims_best:
        judgement = best.claimed(study, judgement, ledger.alternatives(), ledger.tried, of_arms)
    primary = [pair for pair in judgement.verdicts if pair.metric == judgement.primary]
    looks = {pair.arm: pair.look for pair in primary}
    revisions = sorted({run.revision[:10] for arm in arms for run in arm.runs.values() if run.revision})
    notes = (
        *sensitivity.of_primary(study.plan.primary, study.config),
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
    if tuning := [run for run in ledger.missing(study.tuning()) if run.name not in failed]:
        return None, tuning
    lost = {(run.arm, run.place) for run in study.alternatives() if run.name in failed}
    broken = {run.arm for run in study.experiments() if run.name in failed or study.is_open(run)}
    broken |= {waiting for waiting, arm, place in judgement.alternatives if (arm, place) in lost}
    going = set(judgement.open) - broken
    if study.baseline in going and len(going) > 1:
        points = {(arm, place) for waiting, arm, place in judgement.alternatives if waiting in going}
        for look in study.plan.looks:
            runs = [run for run in study.experiments(look) if run.arm in going]
            runs += [run for run in study.alternatives(look) if (run.arm, run.place) in points]
            if runs := ledger.missing(runs):
                return look, runs
    return None, []


def aim(look: int | None) -> str:
    """What experiments are for: a look, in seeds, or tuning."""
    return "for tuning" if look is None else f"up to the look at {look} seeds"


def of_arms(study: Study, arms: Sequence[Arm]) -> Judgement:
    """The judgement of the arms' runs. Each arm's looks are replayed in order, from the plan's first seed."""
    plan = study.plan
    planned = range(plan.first_seed, plan.first_seed + plan.looks[-1])
    arms = tuple(arm._replace(runs={seed: arm.runs[seed] for seed in planned if seed in arm.runs}) for arm in arms)
    runs = [run for arm in arms for run in arm.runs.values()]
    rule, notes, fingerprint = rules(study, _metrics(study, runs)), [], ""
    if runs:
        fingerprint = pairing.check_fingerprints(runs, sorted({key for arm in arms for key in arm.values}))
        notes = pairing.check_alike(arms, plan.may_differ)
        notes += remarks.yardsticks(runs, plan.primary)
    verdicts: list[Verdict] = []
    waiting: dict[str, int] = {}
    baseline, *others = arms
    for arm in others:
        seeds = [seed for seed in planned if seed in baseline.runs and seed in arm.runs]
        complete = [look for look in plan.looks if seeds[:look] == list(planned[:look])]
        if not seeds:
            waiting[arm.label] = plan.looks[0]
            continue
        pair = Pair(baseline.label, arm.label, *(tuple(side.runs[seed] for seed in seeds) for side in (baseline, arm)))
        of_pair = verdict.judge(pair, rule, complete)
        if of_pair[0].outcome == "not yet":
            waiting[arm.label] = plan.looks[len(complete)]
        verdicts += of_pair
    return Judgement(
        question=plan.question,
        primary=plan.primary,
        arms=arms,
        verdicts=tuple(verdicts),
        compare=study.config.compare,
        notes=(*notes, *remarks.details(verdicts, plan.primary)),
        fingerprint=fingerprint,
        plan=study.hash,
        open=(baseline.label, *waiting) if waiting else (),
        next_look=min(waiting.values(), default=None),
    )


def rules(study: Study, names: Sequence[str]) -> Rules:
    """How the plan's arms are judged, in the metrics ``names``, the primary one first."""
    design = Design(study.plan.looks, study.plan.spending)
    return Rules(study.config.compare, names, len(study.plan.arms) - 1, design, study.claims_best)


def power(study: Study, effect: float) -> list[float]:
    """The chance of a verdict in the primary metric by each look, for a true effect in standard deviations of the
    paired differences.

    For one arm, whatever the others do, by the t test alone: the sign-flip test nearly always agrees. A margin, or a
    KID that disagrees, lowers it.
    """
    rule = rules(study, [study.plan.primary])
    chances: list[float] = rule.design.power(rule.alpha / rule.family(study.plan.primary), effect).tolist()
    return chances


def _metrics(study: Study, runs: Sequence[Record]) -> list[str]:
    """The primary metric, then all others that every run has. Raises UserError for a run without the primary one."""
    primary = study.plan.primary
    if missing := [run for run in runs if primary not in run.scores]:
        known = ", ".join(metrics.judged(missing[0].scores)) or "none"
        raise UserError(f"{study.name}: primary: {missing[0].name} has no {primary}; allowed: what it has ({known})")
    everywhere = set.intersection(*(set(run.scores) for run in runs)) if runs else set()
    return [primary, *(name for name in metrics.judged(everywhere) if name != primary)]
