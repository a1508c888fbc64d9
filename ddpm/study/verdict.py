"""What a study's runs say, look by look, of each variant against the baseline.

Every claim of a table, better, worse or equivalent, shares one error rate: one minus ``compare.confidence`` is the
chance that any of them is false, in the whole study, however early it ended. The primary metric has PRIMARY of it, in
equal parts for the variants; the secondary metrics have the rest, in equal parts for variants and metrics. Parts are
not passed on, as Holm's procedure does: a variant that is truly worse can still falsely be called equivalent, and would
hand on a part that it has not done with.

A variant is better or worse when the sequential t test crosses its bound with its part, the sequential sign-flip test
crosses with the whole error rate (in parts, no few seeds could ever reach it), the gap exceeds the margin, KID agrees
and the winner does not copy (``ddpm.compare.verdict.rule``). It is equivalent when two one-sided tests at the same look
exclude the margin. A study ends at that look for that variant; what it does in more seeds changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from tabulate import tabulate

from ddpm.base.errors import UserError
from ddpm.compare import metrics, pairing, statistics, verdict
from ddpm.compare.pairing import Pair
from ddpm.compare.runs import Run
from ddpm.compare.verdict import Described
from ddpm.study.plan import Study
from ddpm.study.sequential import Design

PRIMARY = 0.9  # the share of the error rate that the primary metric has


@dataclass(frozen=True, kw_only=True)
class Finding(Described):
    """One variant in one metric. look: the number of seeds at which it was decided, or that it last had.

    low, high: the repeated confidence interval, which holds at every look at once, for all findings together. estimate:
    median-unbiased. p: sequential, adjusted for the family. None where no look is complete: then ``seeds`` are those at
    hand, and nothing is tested.
    """

    look: int | None = None
    estimate: float | None = None
    p: float | None = None


@dataclass(frozen=True)
class Findings:
    """findings: by variant, the primary metric first. open: the variants that still need seeds, the baseline among
    them; none when all is decided. next_look: the seeds that they need, None when the study is over."""

    study: str
    question: str
    plan_hash: str
    primary: str
    baseline: str
    findings: tuple[Finding, ...]
    open: tuple[str, ...]
    next_look: int | None
    notes: tuple[str, ...]


def judge(study: Study, found: Mapping[str, Mapping[int, Run]]) -> Findings:
    """What the runs (variant -> seed -> run) say at the latest look that is complete for the variants still open.

    Each variant's looks are replayed in order from the plan's first seed. Raises UserError where runs were not scored
    alike, or do not have the primary metric.
    """
    plan = study.plan
    planned = range(plan.first_seed, plan.first_seed + plan.looks[-1])
    arms = {
        name: {seed: found[name][seed] for seed in planned if seed in found.get(name, {})} for name in plan.variants
    }
    runs = [run for arm in arms.values() for run in arm.values()]
    notes = []
    if runs:
        by = sorted({key for overrides in plan.variants.values() for key in overrides})
        pairing.check_fingerprints(runs, by)
        notes = pairing.code_differences(runs)
    names = _metrics(study, runs)
    findings: list[Finding] = []
    waiting: dict[str, int] = {}
    for variant in list(plan.variants)[1:]:
        both = [seed for seed in planned if seed in arms[variant] and seed in arms[study.baseline]]
        complete = [n for n in plan.looks if list(planned[:n]) == both[:n]]
        seeds = both[: complete[-1]] if complete else both
        sides = (tuple(arms[name][seed] for seed in seeds) for name in (study.baseline, variant))
        pair = Pair(study.baseline, variant, *sides)
        if not seeds:
            waiting[variant] = plan.looks[0]
            continue
        first = _replayed(study, pair, plan.primary, tuple(complete), names)
        findings.append(first)
        if first.outcome == "not yet":
            waiting[variant] = plan.looks[len(complete)]
        looked = tuple(n for n in complete if n <= (first.look or 0))
        findings += [_replayed(study, pair, name, looked, names) for name in names if name != plan.primary]
    return Findings(
        study=study.name,
        question=plan.question,
        plan_hash=study.hash,
        primary=plan.primary,
        baseline=study.baseline,
        findings=tuple(findings),
        open=(study.baseline, *waiting) if waiting else (),
        next_look=min(waiting.values(), default=None),
        notes=tuple(notes),
    )


def describe(found: Findings) -> str:
    """For a terminal."""
    blocks = [found.question]
    for variant in dict.fromkeys(each.variant for each in found.findings):
        rows = [_cells(each) for each in found.findings if each.variant == variant]
        heads = ["metric", found.baseline, variant, "difference", "interval", "p", "seeds", "verdict"]
        blocks.append(tabulate(rows, heads, tablefmt="plain", disable_numparse=True))
    return "\n\n".join([*blocks, *(["\n".join(found.notes)] if found.notes else [])])


def to_dict(found: Findings) -> dict[str, Any]:
    """As JSON says it."""
    each = [{**asdict(one), "headline": one.headline, "pairing": one.pairing} for one in found.findings]
    return {**vars(found), "findings": each}


def _metrics(study: Study, runs: list[Run]) -> list[str]:
    """The primary metric, then those that all runs have. Raises UserError for a run without the primary one."""
    primary = study.plan.primary
    if missing := [run for run in runs if primary not in run.scores]:
        known = ", ".join(metrics.judged(missing[0].scores)) or "none"
        raise UserError(f"{study.name}: primary: {missing[0].name} has no {primary}; allowed: what it has ({known})")
    everywhere = set.intersection(*(set(run.scores) for run in runs)) if runs else set()
    return [primary, *(name for name in metrics.judged(everywhere) if name != primary)]


def _replayed(study: Study, pair: Pair, metric: str, complete: tuple[int, ...], names: list[str]) -> Finding:
    """The first complete look that decides, else the last one."""
    settings = study.configs[study.baseline].compare
    alpha, family = 1 - settings.confidence, len(study.plan.variants) - 1
    is_primary = metric == study.plan.primary
    part = PRIMARY / family if is_primary else (1 - PRIMARY) / family / (len(names) - 1)
    design = Design(study.plan.looks, study.plan.spending)
    if odd := [run for run in (*pair.before, *pair.after) if not np.isfinite(run.scores[metric])]:
        described = verdict.described(metric, pair, settings)
        reason = f"{odd[0].name}: {metric} is {odd[0].scores[metric]}"
        return Finding(**described, outcome="inconclusive", reason=reason, look=complete[-1] if complete else None)
    if not complete:
        return Finding(**verdict.described(metric, pair, settings), outcome="not yet", reason="no look is complete")
    p, equivalence_p = [], []
    flipped: int | None = None
    bounds = design.bounds(alpha * part)
    for place, look in enumerate(complete):
        seen = Pair(pair.baseline, pair.variant, pair.before[:look], pair.after[:look])
        described = verdict.described(metric, seen, settings)
        this = Described(**described)
        gaps = np.array(this.differences)
        test = statistics.t_test(gaps, this.margin, settings.confidence)
        p.append(float(test.p))
        equivalence_p.append(min(1.0, 2 * float(test.equivalence_p)))
        sequential = min(1.0, float(design.p(np.array(p))[-1]) / part)
        excludes = design.p(np.array(equivalence_p))[-1] / 2 <= alpha * part
        flipped = flipped or design.sign_flips(gaps, alpha)
        outcome, reason = verdict.rule(seen, this, sequential <= alpha and flipped is not None, bool(excludes))
        half = float(bounds[place] * test.sd / np.sqrt(look))
        last = look == study.plan.looks[-1]
        made = Finding(
            **described | {"low": this.difference - half, "high": this.difference + half},
            outcome=outcome if outcome != "inconclusive" or last or verdict.COPIES in reason else "not yet",
            reason=reason or ("the plan is used up" if last else ""),
            look=look,
            estimate=this.difference,
            p=sequential,
        )
        if made.outcome != "not yet":
            break
    return made


def _cells(each: Finding) -> Iterator[str]:
    relative = "" if each.relative is None else f" ({each.relative:+.1%})"
    yield each.metric
    yield f"{each.baseline_mean:.4g}"
    yield f"{each.variant_mean:.4g}"
    yield f"{each.difference:+.3g}{relative}"
    yield "-" if each.low is None else f"{each.low:+.3g} to {each.high:+.3g}"
    yield "-" if each.p is None else f"{each.p:.2g}"
    yield str(len(each.seeds))
    yield f"{each.outcome}: {each.reason}" if each.reason else each.outcome
