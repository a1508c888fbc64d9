"""Which variant is better: a verdict for each pair of variants and each metric, over runs paired by training seed.

The unit of evidence is the training seed: its score is already the mean over its sampling seeds, and two variants'
runs of one seed share what noise they can. A variant is **better** (or worse) where the paired t test, adjusted by Holm
over the pairs of a metric, and the exact sign-flip test reject "no difference"; the gap is above ``compare.threshold``
of the baseline's mean; and, for a Fréchet distance, KID in the same features moved the same way, where it was measured:
it has no bias, and the Fréchet distance has one that depends on the model (Chong & Forsyth 2020, arXiv:1911.07023).
A variant that copies train images is never the better one (ddpm/evaluation/memorisation.py): copies score like real
images.

It is **equivalent** where two one-sided t tests reject every gap as large as that threshold. Everything else is
**inconclusive**, with a reason and with the number of seeds that would settle it: if the true difference is as seen,
and if it is as near to the threshold as the interval allows. Nobody knows which it is: the numbers are not a forecast.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from ddpm.base.errors import UserError
from ddpm.compare import metrics, pairing, runs, statistics
from ddpm.compare.pairing import Arm, Pair
from ddpm.compare.runs import Gathered, Run
from ddpm.compare.statistics import TTest
from ddpm.params.config import Compare, Config

# the last two are those of a study whose looks go on (ddpm/study/verdict.py)
Outcome = Literal["better", "worse", "equivalent", "inconclusive", "futile", "not yet"]
ONE_SEED = "one seed proves nothing"
COPIES = "copies train images"


@dataclass(frozen=True, kw_only=True)
class Described:
    """A variant's scores next to a baseline's in one metric; differences are variant minus baseline, seed by seed.

    relative: the mean difference as a share of the baseline's |mean|. margin: the gap that matters, in the metric's
    unit. low, high: the interval of the mean difference, None where there is none.
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
    outcome: Outcome = "inconclusive"
    reason: str = ""

    @property
    def headline(self) -> str:
        """In words: "linear is worse: FD 63% higher, 8 of 8 seeds"."""
        way = "higher" if self.difference > 0 else "lower"
        share = self.relative and abs(self.relative)
        size = f"{abs(self.difference):.3g}" if share is None else f"{share:.{0 if share >= 0.095 else 1}%}"
        same = sum(gap * self.difference > 0 for gap in self.differences)
        return (
            f"{self.variant} is {self.outcome}: {metrics.title(self.metric)} {size} {way}, {same} of "
            f"{len(self.seeds)} seeds"
        )

    @property
    def differences(self) -> tuple[float, ...]:
        return tuple(after - before for before, after in zip(self.baseline_scores, self.variant_scores, strict=True))

    @property
    def pairing(self) -> float | None:
        """What pairing by seed bought: the variance of the differences, as a share of the same without pairs."""
        unpaired = np.var(self.baseline_scores) + np.var(self.variant_scores)
        return float(np.var(self.differences) / unpaired) if len(self.seeds) > 1 and unpaired else None


@dataclass(frozen=True, kw_only=True)
class Verdict(Described):
    """What one look says.

    low, high: the t interval. p: of the paired t test; holm_p: after Holm over the metric's pairs; equivalence_p: of
    the two one-sided tests. They are None where there is one seed. more_seeds: how many would settle it with the chance
    ``compare.power``, if the true difference is as seen, and if it is as near to the threshold as the interval allows.
    None for the second: more than statistics.MOST_SEEDS, as always where the interval holds the threshold. None for
    both: nothing to settle, or more than that even if the difference is as seen.
    """

    p: float | None = None
    holm_p: float | None = None
    sign_flip_p: float | None = None
    equivalence_p: float | None = None
    reason: str = ONE_SEED
    more_seeds: tuple[int, int | None] | None = None


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
            others = [run for run in gathered.runs if pairing.values_of(run.params, by) != arms[0].values]
            hint = f"; of those with another value, {runs.most_alike(others, here, by)}" if others else ""
            line = f"only {arms[0].label} was run: `dvc exp run -S {by[0]}=VALUE` runs another"
            raise UserError(f"--by {' '.join(by)}: {line}{hint}")
        wanted = itertools.combinations(arms, 2) if all_pairs else ((arms[0], arm) for arm in arms[1:])
        pairs, dropped = pairing.paired(wanted, by)
    except UserError as error:  # what is missing may have been left out
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
    """Two runs, whatever they differ in: means and differences. With one seed each it is always inconclusive.

    That is why their code may differ: two commits can be looked at without a verdict.
    """
    differences = runs.differences(before.params, after.params)
    # a hyperparameter that only one of them has follows from its variant's name
    by = tuple(key for key in differences if key in before.params and key in after.params)
    arms = [Arm(run.name, {key: run.params.get(key) for key in by}, {run.seed: run}) for run in (before, after)]
    pair = Pair(before.name, after.name, (before,), (after,))
    seeds = [f"{run.name}'s seed is {run.seed}" for run in (before, after)] if before.seed != after.seed else []
    notes = [*seeds, f"{ONE_SEED}: training with another one moves scores as much as many variants do"]
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
            spaces = sorted({space for run in arm.runs.values() for space in metrics.copied(run.scores)})
            copies.append(f"{arm.label} {COPIES} ({', '.join(spaces)}) with {pairing.named(seeds)}")
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
    columns = [_of_metric(metric, pairs, settings) for metric in names]
    return [verdict for verdicts in zip(*columns, strict=True) for verdict in verdicts]


def _of_metric(metric: str, pairs: Sequence[Pair], settings: Compare) -> list[Verdict]:
    seen = [Verdict(**described(metric, pair, settings)) for pair in pairs]
    if len(seen[0].seeds) == 1:
        return seen
    tests = [statistics.t_test(np.array(each.differences), each.margin, settings.confidence) for each in seen]
    adjusted = map(float, statistics.holm(np.array([test.p for test in tests])))
    found = zip(pairs, seen, tests, adjusted, strict=True)
    return [_judged(*each, len(pairs), settings) for each in found]


def described(metric: str, pair: Pair, settings: Compare) -> dict[str, Any]:
    """The fields of ``Described``, without an interval."""
    before, after = pair.scores(metric)
    baseline, difference = float(before.mean()), float((after - before).mean())
    return {
        "metric": metric,
        "direction": metrics.direction(metric),
        "baseline": pair.baseline,
        "variant": pair.variant,
        "seeds": tuple(run.seed for run in pair.after),
        "baseline_scores": tuple(before.tolist()),
        "variant_scores": tuple(after.tolist()),
        "baseline_mean": baseline,
        "variant_mean": float(after.mean()),
        "difference": difference,
        "relative": difference / abs(baseline) if baseline else None,
        "margin": metrics.margin(metric, baseline, settings),
    }


def rule(pair: Pair, seen: Described, differs: bool, excluded: bool) -> tuple[Outcome, str]:
    """The outcome, and its reason; inconclusive without one where neither holds.

    differs: the tests reject "no difference". excluded: they reject every gap as large as the margin.
    """
    if differs and abs(seen.difference) > seen.margin:
        if not _kid_agrees(pair, seen):
            return "inconclusive", "KID moved the other way"
        outcome: Outcome = "better" if metrics.gain(seen.metric, seen.difference) > 0 else "worse"
        winner, runs = (pair.variant, pair.after) if outcome == "better" else (pair.baseline, pair.before)
        if spaces := sorted({space for run in runs for space in metrics.copied(run.scores)}):
            return "inconclusive", f"{winner} {COPIES} ({', '.join(spaces)})"
        return outcome, ""
    if excluded:
        return "equivalent", f"any gap is below {seen.margin:.3g}"
    return "inconclusive", ""


def _judged(pair: Pair, verdict: Verdict, test: TTest, holm_p: float, family: int, settings: Compare) -> Verdict:
    alpha = 1 - settings.confidence
    flip_p = float(statistics.sign_flip_p(np.array(verdict.differences)))
    tested: dict[str, Any] = {name: float(getattr(test, name)) for name in ("low", "high", "p", "equivalence_p")}
    verdict = replace(verdict, **tested, holm_p=holm_p, sign_flip_p=flip_p)
    outcome, reason = rule(pair, verdict, holm_p < alpha and flip_p <= alpha, bool(test.equivalence_p <= alpha))
    if outcome != "inconclusive" or reason:
        return replace(verdict, outcome=outcome, reason=reason)
    # what keeps a difference from a verdict, the first that does
    fewest = statistics.fewest_seeds(alpha)
    doubts = {
        "the interval holds 0": test.p >= alpha,
        f"not after Holm's adjustment for {family} pairs": holm_p >= alpha,
        f"fewer than {fewest} seeds": len(verdict.seeds) < fewest,
        "the sign-flip test does not agree": flip_p > alpha,
        "the gap is not above the threshold": True,
    }
    doubt = next(doubt for doubt, holds in doubts.items() if holds)
    more_seeds = _more_seeds(verdict, test, family, settings)
    if more_seeds is None:
        reason = f"{doubt}; {statistics.MOST_SEEDS} seeds would not settle it if the true difference is as seen"
        return replace(verdict, reason=reason)
    as_seen, hardest = more_seeds
    reason = (
        f"{doubt}; about {as_seen} more seed{'s' * (as_seen > 1)} would settle it if the true difference is as seen, "
        f"{hardest or f'more than {statistics.MOST_SEEDS}'} if it is as near to the threshold as the interval allows"
    )
    return replace(verdict, reason=reason, more_seeds=more_seeds)


def _more_seeds(verdict: Verdict, test: TTest, family: int, settings: Compare) -> tuple[int, int | None] | None:
    """``Verdict.more_seeds`` of an inconclusive one."""
    margin, low, high = verdict.margin, float(test.low), float(test.high)

    def more(difference: float) -> int | None:
        options = (margin, settings.confidence, settings.power, family)
        needed = statistics.seeds_needed(difference, float(test.sd), *options)
        return None if needed is None else max(needed - len(verdict.seeds), 1)

    as_seen = more(verdict.difference)
    if as_seen is None:
        return None
    holds_threshold = any(low <= threshold <= high for threshold in (-margin, margin))
    return as_seen, None if holds_threshold else more(min(low, high, key=abs))


def _kid_agrees(pair: Pair, verdict: Described) -> bool:
    """Whether KID in the same features says the same of which is better, where it was measured."""
    kid = metrics.kid_of(verdict.metric)
    if kid is None or any(kid not in run.scores for run in (*pair.before, *pair.after)):
        return True
    before, after = pair.scores(kid)
    return metrics.gain(kid, float((after - before).mean())) * metrics.gain(verdict.metric, verdict.difference) > 0
