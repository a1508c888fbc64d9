"""Which variant is better: a verdict for each pair of variants and each metric, over runs paired by training seed.

The unit of evidence is the training seed: its score is already the mean over its sampling seeds, and two variants'
runs of one seed share what noise they can. A variant is **better** (or worse) than another where

- the paired t test, adjusted by Holm over the pairs compared, rejects "no difference": the interval excludes 0 and, of
  all pairs of a metric together, false verdicts are as rare as of one;
- the exact sign-flip test rejects it too, which assumes no distribution and takes six seeds at least;
- the gap is above ``compare.threshold`` of the baseline's mean;
- for a Fréchet distance, the kernel distance (KID) in the same features moved the same way, where it was measured: it
  has no bias, and the Fréchet distance has one that depends on the model (Chong & Forsyth 2020, arXiv:1911.07023).

It is **equivalent** where two one-sided t tests reject every gap as large as that threshold. All else is
**inconclusive**, with a reason, and with the number of seeds that would settle it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from ddpm import metrics, paired, pairing, results
from ddpm.config import Compare, Config
from ddpm.errors import UserError
from ddpm.paired import Evidence
from ddpm.pairing import Pair, Side
from ddpm.results import Gathered, Result

Outcome = Literal["better", "worse", "equivalent", "inconclusive"]
ONE_SEED = "one seed proves nothing"


@dataclass(frozen=True)
class Arm:
    """One of the variants compared. values: its params under the keys that vary. None: runs vary, or do not tell."""

    label: str
    values: dict[str, Any]
    seeds: tuple[int, ...]
    runs: tuple[str, ...]
    images_seen: int | None
    parameters: int | None
    evaluations: int | None


@dataclass(frozen=True)
class Verdict:
    """A variant against a baseline in one metric; differences are variant minus baseline, seed by seed.

    relative: the mean difference as a share of the baseline's |mean|. margin: the gap that matters, in the metric's
    unit. low, high: the t interval. p: of the paired t test; holm_p: after Holm over the metric's pairs;
    equivalence_p: of the two one-sided tests. They are None where there is one seed. more_seeds: how many would settle
    it, if seeds go on like these; None where there is nothing to settle, or no such number.
    """

    metric: str
    direction: metrics.Direction
    baseline: str
    variant: str
    seeds: tuple[int, ...]
    baseline_scores: tuple[float, ...]
    variant_scores: tuple[float, ...]
    baseline_mean: float
    variant_mean: float
    difference: float
    relative: float | None
    margin: float
    low: float | None = None
    high: float | None = None
    p: float | None = None
    holm_p: float | None = None
    sign_flip_p: float | None = None
    equivalence_p: float | None = None
    outcome: Outcome = "inconclusive"
    reason: str = ONE_SEED
    more_seeds: int | None = None

    @property
    def differences(self) -> tuple[float, ...]:
        return tuple(after - before for before, after in zip(self.baseline_scores, self.variant_scores, strict=True))


@dataclass(frozen=True)
class Comparison:
    """The baseline is the first of ``arms``. ``verdicts``: by pair, then by metric, the headline first."""

    by: tuple[str, ...]
    metrics: tuple[str, ...]
    arms: tuple[Arm, ...]
    verdicts: tuple[Verdict, ...]
    notes: tuple[str, ...]
    fingerprint: str
    threshold: float
    confidence: float
    power: float


def compare(
    gathered: Gathered,
    by: Sequence[str],
    working: Config,
    chosen: Sequence[str] = (),
    allow_budget_mismatch: bool = False,
    all_pairs: bool = False,
) -> Comparison:
    """Every variant of the params keys ``by`` against the baseline, or every pair of variants.

    The baseline is the variant of the working params where that was run, else the first. chosen: metrics; without,
    those that all runs have. Raises UserError where runs can't be compared.
    """
    by, settings = tuple(dict.fromkeys(by)), working.compare
    pairing.check_keys(by, gathered.results, working)
    try:
        sides, pairs, dropped = _paired(gathered.results, by, working, all_pairs)
    except UserError as error:  # what is lacking may be what was left out
        raise UserError("; ".join([str(error), *gathered.notes])) from error
    runs = [run for side in sides for run in side.runs.values()]
    fingerprint = pairing.check_fingerprints(runs, by)
    budgets = pairing.check_budgets(sides, allow_budget_mismatch)
    names = pairing.choose_metrics(runs, chosen)
    return Comparison(
        by=by,
        metrics=tuple(names),
        arms=tuple(map(_arm, sides)),
        verdicts=tuple(judge(pairs, names, settings)),
        notes=(*gathered.notes, *budgets, *dropped, *_too_few(pairs, settings)),
        fingerprint=fingerprint,
        **settings.model_dump(),
    )


def between(
    before: Result,
    after: Result,
    settings: Compare,
    chosen: Sequence[str] = (),
    allow_budget_mismatch: bool = False,
) -> Comparison:
    """Two runs, whatever they differ in: means and differences. One seed each is no evidence, hence inconclusive."""
    differences = results.differences(before.params, after.params)
    # a hyperparameter that only one of them has follows from its variant's name
    by = tuple(key for key in differences if key in before.params and key in after.params)
    sides = [Side(run.name, {key: run.params.get(key) for key in by}, {run.seed: run}) for run in (before, after)]
    fingerprint = pairing.check_fingerprints((before, after), by)
    budgets = pairing.check_budgets(sides, allow_budget_mismatch)
    names = pairing.choose_metrics((before, after), chosen)
    pair = Pair(before.name, after.name, (after.seed,), (before,), (after,))
    seeds = [f"{run.name}'s seed is {run.seed}" for run in (before, after)] if before.seed != after.seed else []
    return Comparison(
        by=by,
        metrics=tuple(names),
        arms=tuple(map(_arm, sides)),
        verdicts=tuple(_described(metric, pair, settings.threshold) for metric in names),
        notes=(*budgets, *seeds, f"{ONE_SEED}: training anew with another moves scores as much as many a variant does"),
        fingerprint=fingerprint,
        **settings.model_dump(),
    )


def _paired(
    found: Sequence[Result], by: tuple[str, ...], working: Config, all_pairs: bool
) -> tuple[list[Side], list[Pair], list[str]]:
    """The variants, the pairs to judge, and notes of what was left out."""
    matched = results.matching(found, working, by)
    sides = pairing.sides(matched.results, by, working)
    if len(sides) == 1:
        raise UserError(_only_one(sides[0], matched.results[0], by, found))
    wanted = itertools.combinations(sides, 2) if all_pairs else ((sides[0], side) for side in sides[1:])
    pairs, dropped = pairing.pairs(wanted, by)
    return sides, pairs, [*matched.notes, *dropped]


def judge(pairs: Sequence[Pair], names: Sequence[str], settings: Compare) -> list[Verdict]:
    """A verdict for each pair of at least two seeds, and each metric; Holm goes over the pairs of a metric."""
    judged: dict[tuple[int, str], Verdict] = {}
    for metric in names:
        described = [_described(metric, pair, settings.threshold) for pair in pairs]
        found = [paired.evidence(np.array(row.differences), row.margin, settings.confidence) for row in described]
        adjusted = paired.holm(np.array([evidence.p for evidence in found]))
        for index, (pair, row, evidence, holm_p) in enumerate(zip(pairs, described, found, adjusted, strict=True)):
            judged[index, metric] = _judged(pair, row, evidence, float(holm_p), len(pairs), settings)
    return [judged[index, metric] for index in range(len(pairs)) for metric in names]


def _described(metric: str, pair: Pair, threshold: float) -> Verdict:
    before, after = pair.scores(metric)
    baseline, difference = float(before.mean()), float((after - before).mean())
    return Verdict(
        metric=metric,
        direction=metrics.direction(metric),
        baseline=pair.baseline,
        variant=pair.variant,
        seeds=pair.seeds,
        baseline_scores=tuple(before.tolist()),
        variant_scores=tuple(after.tolist()),
        baseline_mean=baseline,
        variant_mean=float(after.mean()),
        difference=difference,
        relative=difference / abs(baseline) if baseline else None,
        margin=threshold * abs(baseline),
    )


def _judged(pair: Pair, row: Verdict, found: Evidence, holm_p: float, family: int, settings: Compare) -> Verdict:
    alpha = 1 - settings.confidence
    flip_p = paired.sign_flip_p(np.array(row.differences))
    row = replace(
        row,
        low=float(found.low),
        high=float(found.high),
        p=float(found.p),
        holm_p=holm_p,
        sign_flip_p=float(flip_p),
        equivalence_p=float(found.equivalence_p),
    )
    different = paired.is_different(found.mean, np.array(holm_p), flip_p, row.margin, alpha)
    against = _kid_disagrees(pair, row)
    if different and not against:
        gain = metrics.gain(row.metric, row.difference)
        return replace(row, outcome="better" if gain > 0 else "worse", reason="")
    if paired.is_equivalent(found, alpha):
        return replace(row, outcome="equivalent", reason=f"any gap is below {settings.threshold:.3g} of the baseline")
    if different:
        return replace(row, reason="KID moved the other way")
    needed = paired.seeds_needed(
        row.difference, float(found.sd), row.margin, settings.confidence, settings.power, family
    )
    more = None if needed is None else max(needed - len(row.seeds), 1)
    settled = (
        f"about {more} more seed{'s' * (more > 1)} would settle it"
        if more
        else f"{paired.MOST_SEEDS} seeds would not settle it"
    )
    return replace(row, reason=f"{_doubt(row, holm_p, alpha, family)}; {settled}", more_seeds=more)


def _kid_disagrees(pair: Pair, row: Verdict) -> bool:
    """Whether KID in the same features does not say the same of which is better."""
    kid = metrics.kid_of(row.metric)
    if kid is None or any(kid not in run.scores for run in (*pair.before, *pair.after)):
        return False
    before, after = pair.scores(kid)
    return metrics.gain(kid, float((after - before).mean())) * metrics.gain(row.metric, row.difference) <= 0


def _doubt(row: Verdict, holm_p: float, alpha: float, family: int) -> str:
    """What keeps a difference from a verdict, the first that does."""
    doubts = {
        "the interval holds 0": (row.p or 0) >= alpha,
        f"not after Holm's adjustment for {family} pairs": holm_p >= alpha,
        f"fewer than {paired.fewest_seeds(alpha)} seeds": len(row.seeds) < paired.fewest_seeds(alpha),
        "the sign-flip test does not agree": (row.sign_flip_p or 0) > alpha,
        "the gap is not above the threshold": abs(row.difference) <= row.margin,
    }
    return next(doubt for doubt, holds in doubts.items() if holds)


def _too_few(pairs: Sequence[Pair], settings: Compare) -> list[str]:
    seeds, least = min(len(pair.seeds) for pair in pairs), paired.fewest_seeds(1 - settings.confidence)
    if seeds >= least:
        return []
    return [
        f"{seeds} seeds, fewer than {least}: the sign-flip test cannot go below p = {2 / 2**seeds:.4g}, so that no "
        "verdict of better or worse is possible"
    ]


def _arm(side: Side) -> Arm:
    spent = {budget: side.spent(budget) for budget in pairing.BUDGETS}
    known = {budget: amounts.pop() if len(amounts) == 1 else None for budget, amounts in spent.items()}
    names = tuple(run.name for run in side.runs.values())
    return Arm(side.label, side.values, tuple(side.runs), names, **known)


def _only_one(side: Side, first: Result, by: Sequence[str], found: Sequence[Result]) -> str:
    others = [run for run in found if pairing.varied(run.params, by) != side.values]
    hint = f"; of those with another value, {results.nearest(others, first.params, by)}" if others else ""
    return f"--by {' '.join(by)}: only {side.label} was run: `dvc exp run -S {by[0]}=VALUE` runs another{hint}"
