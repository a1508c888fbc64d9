"""Which variant is better: a verdict for each pair of variants and each metric, over runs paired by training seed.

The unit of evidence is the training seed: its score is already the mean over its sampling seeds, and two variants'
runs of one seed share what noise they can. A variant is **better** (or worse) where the paired t test, adjusted by Holm
over the pairs of a metric, and the exact sign-flip test reject "no difference"; the gap is above ``compare.threshold``
of the baseline's mean; and, for a Fréchet distance, KID in the same features moved the same way, where it was measured:
it has no bias, and the Fréchet distance has one that depends on the model (Chong & Forsyth 2020, arXiv:1911.07023).
No score makes the better one of a variant that copies train images (ddpm/evaluation/memorisation.py): copies score
like real images.

It is **equivalent** where two one-sided t tests reject every gap as large as that threshold. All else is
**inconclusive**, with a reason, and with the number of seeds that would settle it: if the true difference is as seen,
and if it is as near to the threshold as the interval allows. Which it is nobody knows: the numbers are no forecast.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from ddpm.base.errors import UserError
from ddpm.compare import metrics, pairing, runs, statistics
from ddpm.compare.pairing import Arm, Pair
from ddpm.compare.runs import Gathered, Run
from ddpm.compare.statistics import TTest
from ddpm.params.config import Compare, Config

Outcome = Literal["better", "worse", "equivalent", "inconclusive"]
ONE_SEED = "one seed proves nothing"


@dataclass(frozen=True)
class Verdict:
    """A variant against a baseline in one metric; differences are variant minus baseline, seed by seed.

    relative: the mean difference as a share of the baseline's |mean|. margin: the gap that matters, in the metric's
    unit. low, high: the t interval. p: of the paired t test; holm_p: after Holm over the metric's pairs;
    equivalence_p: of the two one-sided tests. They are None where there is one seed. more_seeds: how many would settle
    it with the chance ``compare.power``, if the true difference is as seen, and if it is as near to the threshold as
    the interval allows; there None is more than paired.MOST_SEEDS, as always where the interval holds the threshold.
    None in place of both where there is nothing to settle, or more would be needed even if it is as seen.
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
    more_seeds: tuple[int, int | None] | None = None

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
    allow_code_mismatch: bool = False,
    all_pairs: bool = False,
) -> Comparison:
    """Every variant of the params keys ``by`` against the baseline, or every pair of variants.

    The baseline is the variant of the working params where that was run, else the first. chosen: metrics; without,
    those that all runs have. Raises UserError where runs can't be compared.
    """
    by = tuple(dict.fromkeys(by))
    pairing.check_keys(by, gathered.runs, working)
    try:
        matched = runs.matching(gathered.runs, working, by)
        arms = pairing.arms(matched.runs, by, working)
        if len(arms) == 1:
            here = runs.plain_params(working)
            others = [run for run in gathered.runs if pairing.varied(run.params, by) != arms[0].values]
            hint = f"; of those with another value, {runs.most_alike(others, here, by)}" if others else ""
            line = f"only {arms[0].label} was run: `dvc exp run -S {by[0]}=VALUE` runs another"
            raise UserError(f"--by {' '.join(by)}: {line}{hint}")
        wanted = itertools.combinations(arms, 2) if all_pairs else ((arms[0], arm) for arm in arms[1:])
        pairs, dropped = pairing.pairs(wanted, by)
    except UserError as error:  # what is lacking may be what was left out
        raise UserError("; ".join([str(error), *gathered.notes])) from error
    notes = [*gathered.notes, *matched.notes, *dropped]
    return _compared(by, arms, pairs, notes, working.compare, chosen, allow_budget_mismatch, allow_code_mismatch)


def between(
    before: Run,
    after: Run,
    settings: Compare,
    chosen: Sequence[str] = (),
    allow_budget_mismatch: bool = False,
) -> Comparison:
    """Two runs, whatever they differ in: means and differences. One seed each is no evidence, hence inconclusive.

    That is why their code may differ: two commits can be looked at, and no verdict comes of it.
    """
    differences = runs.differences(before.params, after.params)
    # a hyperparameter that only one of them has follows from its variant's name
    by = tuple(key for key in differences if key in before.params and key in after.params)
    arms = [Arm(run.name, {key: run.params.get(key) for key in by}, {run.seed: run}) for run in (before, after)]
    pair = Pair(before.name, after.name, (before,), (after,))
    seeds = [f"{run.name}'s seed is {run.seed}" for run in (before, after)] if before.seed != after.seed else []
    notes = [*seeds, f"{ONE_SEED}: training anew with another moves scores as much as many a variant does"]
    return _compared(by, arms, [pair], notes, settings, chosen, allow_budget_mismatch, allow_code_mismatch=True)


def _compared(
    by: tuple[str, ...],
    arms: Sequence[Arm],
    pairs: Sequence[Pair],
    notes: Sequence[str],
    settings: Compare,
    chosen: Sequence[str],
    allow_budget_mismatch: bool,
    allow_code_mismatch: bool,
) -> Comparison:
    runs = [run for arm in arms for run in arm.runs.values()]
    fingerprint = pairing.check_fingerprints(runs, by)
    code = pairing.check_code(runs, allow_code_mismatch)
    budgets = pairing.check_budgets(arms, allow_budget_mismatch)
    names = pairing.choose_metrics(runs, chosen)
    copies = []
    for arm in arms:
        if seeds := [seed for seed, run in arm.runs.items() if metrics.copied(run.scores)]:
            copies.append(f"{arm.label} {_copies(arm.runs.values())} with {pairing.named(seeds)}")
    return Comparison(
        by=by,
        metrics=tuple(names),
        arms=tuple(arms),
        verdicts=tuple(judge(pairs, names, settings)),
        notes=(*code, *budgets, *copies, *notes),
        fingerprint=fingerprint,
        **settings.model_dump(),
    )


def judge(pairs: Sequence[Pair], names: Sequence[str], settings: Compare) -> list[Verdict]:
    """A verdict for each pair and each metric; Holm goes over the pairs of a metric. One seed is only described."""
    judged: dict[tuple[int, str], Verdict] = {}
    for metric in names:
        rows = [_described(metric, pair, settings.threshold) for pair in pairs]
        if len(rows[0].seeds) > 1:
            found = [statistics.t_test(np.array(row.differences), row.margin, settings.confidence) for row in rows]
            adjusted = statistics.holm(np.array([evidence.p for evidence in found]))
            rows = [
                _judged(pair, row, evidence, float(holm_p), len(pairs), settings)
                for pair, row, evidence, holm_p in zip(pairs, rows, found, adjusted, strict=True)
            ]
        judged |= {(place, metric): row for place, row in enumerate(rows)}
    return [judged[place, metric] for place in range(len(pairs)) for metric in names]


def _described(metric: str, pair: Pair, threshold: float) -> Verdict:
    before, after = pair.scores(metric)
    baseline, difference = float(before.mean()), float((after - before).mean())
    return Verdict(
        metric=metric,
        direction=metrics.direction(metric),
        baseline=pair.baseline,
        variant=pair.variant,
        seeds=tuple(run.seed for run in pair.after),
        baseline_scores=tuple(before.tolist()),
        variant_scores=tuple(after.tolist()),
        baseline_mean=baseline,
        variant_mean=float(after.mean()),
        difference=difference,
        relative=difference / abs(baseline) if baseline else None,
        margin=threshold * abs(baseline),
    )


def _judged(pair: Pair, row: Verdict, found: TTest, holm_p: float, family: int, settings: Compare) -> Verdict:
    alpha = 1 - settings.confidence
    flip_p = float(statistics.sign_flip_p(np.array(row.differences)))
    told: dict[str, Any] = {name: float(getattr(found, name)) for name in ("low", "high", "p", "equivalence_p")}
    row = replace(row, **told, holm_p=holm_p, sign_flip_p=flip_p)
    different = statistics.is_different(found.mean, np.array(holm_p), np.array(flip_p), row.margin, alpha)
    if different and _kid_agrees(pair, row):
        outcome: Outcome = "better" if metrics.gain(row.metric, row.difference) > 0 else "worse"
        winner, runs = (pair.variant, pair.after) if outcome == "better" else (pair.baseline, pair.before)
        if copies := _copies(runs):
            return replace(row, reason=f"{winner} {copies}")
        return replace(row, outcome=outcome, reason="")
    if statistics.is_equivalent(found, alpha):
        return replace(row, outcome="equivalent", reason=f"any gap is below {settings.threshold:.3g} of the baseline")
    if different:
        return replace(row, reason="KID moved the other way")
    # what keeps a difference from a verdict, the first that does
    fewest = statistics.fewest_seeds(alpha)
    doubts = {
        "the interval holds 0": found.p >= alpha,
        f"not after Holm's adjustment for {family} pairs": holm_p >= alpha,
        f"fewer than {fewest} seeds": len(row.seeds) < fewest,
        "the sign-flip test does not agree": flip_p > alpha,
        "the gap is not above the threshold": True,
    }
    doubt = next(doubt for doubt, holds in doubts.items() if holds)
    more_seeds = _more_seeds(row, float(found.sd), family, settings)
    if more_seeds is None:
        reason = f"{doubt}; {statistics.MOST_SEEDS} seeds would not settle it if the true difference is as seen"
        return replace(row, reason=reason)
    as_seen, hardest = more_seeds
    reason = (
        f"{doubt}; about {as_seen} more seed{'s' * (as_seen > 1)} would settle it if the true difference is as seen, "
        f"{hardest or f'more than {statistics.MOST_SEEDS}'} if it is as near to the threshold as the interval allows"
    )
    return replace(row, reason=reason, more_seeds=more_seeds)


def _more_seeds(row: Verdict, sd: float, family: int, settings: Compare) -> tuple[int, int | None] | None:
    """``Verdict.more_seeds`` of an inconclusive row, whose differences have the standard deviation ``sd``."""

    def more(difference: float) -> int | None:
        needed = statistics.seeds_needed(difference, sd, row.margin, settings.confidence, settings.power, family)
        return None if needed is None else max(needed - len(row.seeds), 1)

    as_seen = more(row.difference)
    if as_seen is None or row.low is None or row.high is None:
        return None
    if any(row.low <= threshold <= row.high for threshold in (-row.margin, row.margin)):
        return as_seen, None
    return as_seen, more(min(row.low, row.high, key=abs))


def _copies(runs: Iterable[Run]) -> str:
    """What is to be said where any of a variant's runs copies train images, and in which spaces; else nothing."""
    spaces = sorted({space for run in runs for space in metrics.copied(run.scores)})
    return f"copies train images ({', '.join(spaces)})" if spaces else ""


def _kid_agrees(pair: Pair, row: Verdict) -> bool:
    """Whether KID in the same features says the same of which is better, where it was measured."""
    kid = metrics.kid_of(row.metric)
    if kid is None or any(kid not in run.scores for run in (*pair.before, *pair.after)):
        return True
    before, after = pair.scores(kid)
    return metrics.gain(kid, float((after - before).mean())) * metrics.gain(row.metric, row.difference) > 0
