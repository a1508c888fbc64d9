"""The verdict of a study's runs, look by look, for each variant against the baseline.

One minus ``compare.confidence`` is the chance that anything in a study's whole table is false, whether it is called
better, worse or equivalent, and however early, for symmetric differences. The primary metric gets PRIMARY of that error
rate, in equal parts for the variants; the secondary metrics get the rest, in equal parts for variants and metrics.
ddpm/compare/verdict.py explains why parts are not passed on, and why the sign-flip test has no part. The rule here is
the same, with sequential tests instead of tests at one look (ddpm/study/sequential.py). The look that decides passes
all of them itself: a verdict has the direction, size, interval and p of one look. So fewer studies decide than the
bounds allow, and the error rate holds.

A variant is done at the first look at which its primary metric is better, worse or equivalent, or at which it is too
early for a verdict; more seeds change nothing. It is futile, and needs no more seeds, if the plan's last look would
give a verdict with a chance below FUTILE under every hope: that the true difference is one standard error larger than
observed (taken as observed, one in seven studies of an effect of one sd would stop in vain), that it is as large as the
margin, or that it is 0. That stop is not binding: no bound relies on it, so if the seeds are run anyway, the looks
continue.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from ddpm.base.errors import UserError
from ddpm.compare import citation, metrics, pairing, statistics, tables, too_early, verdict
from ddpm.compare.runs import Run
from ddpm.study import curves, tuning
from ddpm.study.curves import Curves
from ddpm.study.plan import Study
from ddpm.study.sequential import Design
from ddpm.study.tuning import Tried

PRIMARY = 0.9  # the primary metric's share of the error rate; with `claim: best`, tuning.EXCLUDING is part of it
FUTILE = 0.1


@dataclass(frozen=True, kw_only=True)
class Finding(verdict.Described):
    """One variant in one metric. look: the number of seeds at which it was decided, or else of its last look.

    low, high: the repeated confidence interval (Jennison & Turnbull 1989): exact, valid at every look, and for all
    findings together. estimate: median-unbiased, unlike the mean difference if a look may end the study. p: of that
    look, and adjusted for the whole table and all looks. They are None if no look is complete: then ``seeds`` are the
    available ones, and nothing is tested. at_best: whether the outcome holds at each arm's best values
    (ddpm/study/best.py); then p is the largest of all pairs of values, and the rest is about the values chosen.
    """

    look: int | None = None
    estimate: float | None = None
    p: float | None = None
    at_best: bool = False

    @property
    def said(self) -> str:
        return super().said + " at its best" * self.at_best


@dataclass(frozen=True)
class Findings:
    """findings: by variant, the primary metric first; none for a variant without seeds. open: the variants that need
    more seeds, including the baseline; none if all are decided. next_look: in seeds; None if the study is over. curves:
    the primary metric over training, if the runs have snapshots. tuning: what chose the values that the variants
    have. alternatives: with ``claim: best``, the variants that wait for runs at another value, of which arm,
    and at which place in the grid."""

    study: str
    question: str
    plan_hash: str
    primary: str
    baseline: str
    findings: tuple[Finding, ...]
    open: tuple[str, ...]
    next_look: int | None
    notes: tuple[str, ...]
    curves: Curves | None = None
    tuning: tuple[Tried, ...] = ()
    alternatives: tuple[tuple[str, str, int], ...] = ()


class Power(NamedTuple):
    """effect: in standard deviations of the differences. decided: the chance by each look, in seeds."""

    effect: float
    decided: dict[int, float]


def judge(study: Study, found: Mapping[str, Mapping[int, Run]]) -> Findings:
    """The findings from the runs (variant -> seed -> run) at the latest look that is complete for the open variants.

    Each variant's looks are replayed in order, from the plan's first seed. Raises UserError if runs were not scored in
    the same way, lack the primary metric, or differ in what ``plan.may_differ`` does not name.
    """
    plan = study.plan
    planned = range(plan.first_seed, plan.first_seed + plan.looks[-1])
    arms = {}
    for name, overrides in plan.variants.items():
        own, tuned = found.get(name, {}), study.chosen[name].values if name in study.chosen else {}
        arms[name] = pairing.Arm(name, {**overrides, **tuned}, {seed: own[seed] for seed in planned if seed in own})
    runs = [run for arm in arms.values() for run in arm.runs.values()]
    names, notes = _metrics(study, runs), []
    if runs:
        pairing.check_fingerprints(runs, sorted({key for arm in arms.values() for key in arm.values}))
        planned_to = [] if plan.budget == "images" else ["images_seen"]
        notes = pairing.check_alike(list(arms.values()), [*plan.may_differ, *planned_to])
        notes += too_early.note(runs, plan.primary)
    findings: list[Finding] = []
    waiting: dict[str, int] = {}
    for variant in list(plan.variants)[1:]:
        sides = arms[study.baseline], arms[variant]
        seeds = [seed for seed in planned if all(seed in arm.runs for arm in sides)]
        complete = [look for look in plan.looks if seeds[:look] == list(planned[:look])]
        if not seeds:
            waiting[variant] = plan.looks[0]
            continue
        pair = pairing.Pair(study.baseline, variant, *(tuple(arm.runs[seed] for seed in seeds) for arm in sides))
        primary = _replayed(study, pair, plan.primary, complete, len(names) - 1)
        if primary.outcome == "not yet":
            waiting[variant] = plan.looks[len(complete)]
        looked = [look for look in complete if look <= (primary.look or 0)]
        findings.append(primary)
        for name in names[1:]:
            other = _replayed(study, pair, name, looked, len(names) - 1)
            if other.outcome == "not yet" and primary.outcome != "not yet":
                other = replace(other, outcome="inconclusive", reason="undecided at the primary metric's last look")
            findings.append(other)
    return Findings(
        study=study.name,
        question=plan.question,
        plan_hash=study.hash,
        primary=plan.primary,
        baseline=study.baseline,
        findings=tuple(findings),
        open=(study.baseline, *waiting) if waiting else (),
        next_look=min(waiting.values(), default=None),
        notes=(*notes, *verdict.details(findings, plan.primary)),
    )


def power(study: Study, effects: Sequence[float] = (1, 1.5, 2)) -> list[Power]:
    """The power of the plan in its primary metric, for true effects in standard deviations of the paired differences.

    For one variant, whatever the others do, by the t test alone: the sign-flip test nearly always agrees. A margin, or
    a KID that disagrees, lowers it.
    """
    design = Design(study.plan.looks, study.plan.spending)
    level = (1 - study.settings.compare.confidence) / _family(study, is_primary=True, secondary=0)
    decided = {effect: design.power(level, effect).tolist() for effect in effects}
    return [Power(effect, dict(zip(design.looks, chances, strict=True))) for effect, chances in decided.items()]


def headlines(found: Findings) -> list[str]:
    """A line for each variant, and one each about what they were tuned on and what comes next."""
    ahead = [f"next look: {found.next_look} seeds of {', '.join(found.open)}"] if found.next_look else []
    decided = tables.headlines(found.findings, found.primary)
    decided += tables.representations(found.findings, found.primary)
    by_budget = curves.headlines(found.curves) if found.curves else []
    return [*decided, *tuning.headline(found.tuning), *by_budget, *ahead]


def titled(found: Findings) -> Iterator[tuple[str, tables.Rows]]:
    """A table for each variant, and one of the values tried: its title, and rows of cells, the heads first."""
    yield from tables.of_pairs(
        found.findings, ["estimate", "p"], lambda each: [f"{each.estimate:+.3g}", f"{each.p:.2g}"]
    )
    if found.curves:
        yield from curves.titled(found.curves)
    yield from tuning.titled(found.tuning, found.primary)


def describe(found: Findings) -> str:
    """For a terminal: the question, the headlines, a sentence and a table for each variant, and notes."""
    sentences = citation.sentences(found.findings, found.primary)
    return "\n".join([found.question, *headlines(found), "", tables.plain(titled(found), [*sentences, *found.notes])])


def markdown(found: Findings) -> str:
    """The same, with the sentences for BibTeX."""
    blocks = tables.listed(headlines(found)), tables.markdown(titled(found), found.notes)
    return "\n".join([f"# {found.question}", "", *blocks, citation.markdown(found.findings, found.primary)])


def to_dict(found: Findings) -> dict[str, Any]:
    """For JSON."""
    parts = {
        "findings": [each.to_dict() | citation.to_dict(each) for each in found.findings],
        "curves": curves.to_dict(found.curves) if found.curves else None,
        "tuning": tuning.to_dict(found.tuning),
    }
    return {**vars(found), **parts}


def _family(study: Study, is_primary: bool, secondary: int) -> float:
    """One over a finding's part of the error rate. secondary: the number of secondary metrics."""
    variants, tested = len(study.plan.variants) - 1, PRIMARY - tuning.EXCLUDING * study.claims_best
    return variants / tested if is_primary else variants * secondary / (1 - PRIMARY)


def _metrics(study: Study, runs: Sequence[Run]) -> list[str]:
    """The primary metric, then all others that every run has. Raises UserError for a run without the primary one."""
    primary = study.plan.primary
    if missing := [run for run in runs if primary not in run.scores]:
        known = ", ".join(metrics.judged(missing[0].scores)) or "none"
        raise UserError(f"{study.name}: primary: {missing[0].name} has no {primary}; allowed: what it has ({known})")
    everywhere = set.intersection(*(set(run.scores) for run in runs)) if runs else set()
    return [primary, *(name for name in metrics.judged(everywhere) if name != primary)]


def _replayed(study: Study, pair: pairing.Pair, metric: str, complete: Sequence[int], secondary: int) -> Finding:
    """The finding, look by look, up to the first complete look that decides.

    complete: the looks that the pair's seeds allow. secondary: the number of metrics besides the primary one.
    """
    settings, last = study.settings.compare, study.plan.looks[-1]
    is_primary = metric == study.plan.primary
    family = _family(study, is_primary, secondary)
    seen = Finding(**verdict.described(metric, pair, settings), outcome="not yet", reason="no look is complete")
    alpha, design = 1 - settings.confidence, Design(study.plan.looks, study.plan.spending)
    level = alpha / family
    p: list[float] = []
    equivalence_p: list[float] = []
    table = f"{len(study.plan.variants) - 1} comparisons in {secondary + 1} metrics"
    looks = " ".join(map(str, study.plan.looks))
    coverage = f"{100 * settings.confidence:g}% interval, adjusted for {table} and for looks at {looks} seeds"
    for place, look in enumerate(complete):
        so_far = pair._replace(before=pair.before[:look], after=pair.after[:look])
        if odd := [run for run in (*so_far.before, *so_far.after) if not math.isfinite(run.scores[metric])]:
            reason = f"{odd[0].name}: {metric} is {odd[0].scores[metric]}"
            return replace(seen, look=look, outcome="inconclusive", reason=reason)
        seen = Finding(**verdict.described(metric, so_far, settings), look=look)
        gaps = np.array(seen.differences)
        test = statistics.t_test(gaps, seen.margin, settings.confidence)
        error, sd = float(test.sd) / math.sqrt(look), float(test.sd)
        p.append(float(test.p))
        equivalence_p.append(min(1.0, 2 * float(test.equivalence_p)))  # one-sided: half of a two-sided design's
        adjusted = min(1.0, float(design.p(np.array(p))[-1]) * family)
        half = float(design.bounds(level)[place]) * error
        differs = abs(seen.difference) > half and look in design.sign_flips(gaps, alpha)
        excluded = float(design.p(np.array(equivalence_p))[-1]) / 2 <= level and all(
            look in design.sign_flips(gaps + shift, 2 * alpha) for shift in (-seen.margin, seen.margin)
        )
        outcome, reason = verdict.rule(so_far, study.plan.primary, seen, differs, excluded)
        effect = design.median(level, place, seen.difference / error) * sd if error else seen.difference
        seen = replace(
            seen,
            low=seen.difference - half,
            high=seen.difference + half,
            estimate=effect,
            p=adjusted,
            outcome=outcome,
            reason=reason,
            coverage=coverage,
        )
        if outcome != "inconclusive" or verdict.COPIES in reason:
            return seen
        if look == last:
            needs = f"; in a new study, {verdict.more(seen, sd, family, settings)[1]}" if is_primary else ""
            return replace(seen, reason=reason or f"undecided at the plan's last look{needs}")
    if complete and is_primary:
        hopes = (0.0, *(math.copysign(size, seen.difference) for size in (seen.margin, abs(seen.difference) + error)))
        chance = max(design.chance(level, np.array(seen.differences), hope, seen.margin) for hope in hopes)
        says = f"a verdict by {last} seeds has a chance of {chance:.0%}"
        return replace(seen, outcome="futile" if chance < FUTILE else "not yet", reason=says)
    return replace(seen, outcome="not yet") if complete else seen
