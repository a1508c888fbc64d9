"""Which variant is better: a verdict for each pair of variants and each metric, over runs paired by training seed.

The unit of evidence is the training seed: its score is already the mean over its sampling seeds, and two variants'
runs of one seed share as much noise as they can. A variant is **better** (or worse) if the paired t test and the exact
sign-flip test reject "no difference"; the gap exceeds the metric's margin; and, for a Fréchet distance, KID in the same
features (if measured) moved the same way, because KID has no bias and the Fréchet distance has one that depends on the
model (Chong & Forsyth 2020, arXiv:1911.07023). A variant that copies train images is never the better one
(ddpm/scoring/memorisation.py): copies score like real images.

Two variants that both score worse than a Gaussian fitted to the train images, in the mean of the primary metric over
their runs, have learned nothing yet: whatever they differ in, it is **too early** for a verdict.

It is **equivalent** if two one-sided t tests, and the same sign-flip tests, reject every gap as large as the margin. A
likelihood no better than a uniform guess's is **useless**. Everything else is **inconclusive**, with a reason and with
the number of seeds that would settle it: if the true difference is as observed, and if it is as near to the margin as
the interval allows. Nobody knows which holds: the numbers are not a forecast.

One minus ``compare.confidence`` is the chance that any verdict of the table is false, whichever kind it is, for
symmetric differences (docs/concepts.md has skewed ones): each gets an equal part of it (Bonferroni). Parts are not
passed on as in Holm's procedure: a variant that is worse by the margin can still be called equivalent by mistake, and
the part it passed on would be spent twice (6.1% instead of 5% with two variants). Only the t tests are adjusted, as
an adjusted sign-flip test could reject nothing with so few seeds. ddpm/study/verdict.py is for several looks.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from ddpm.base.errors import UserError
from ddpm.compare import metrics, pairing, runs, statistics, too_early
from ddpm.compare.pairing import Arm, Pair
from ddpm.compare.runs import Gathered
from ddpm.params.config import Compare, Config
from ddpm.scoring.metric import Direction

# the last two are for a study that continues (ddpm/study/verdict.py)
Outcome = Literal["better", "worse", "equivalent", "too early", "useless", "inconclusive", "futile", "not yet"]
DECIDED: tuple[Outcome, ...] = ("better", "worse", "equivalent")
SKEWED = 0.01  # the share of normal samples that are as skewed, from which a verdict has a note
COPIES = "copies train images"


@dataclass(frozen=True, kw_only=True)
class Described:
    """A variant's scores next to a baseline's in one metric; differences are variant minus baseline, seed by seed.

    relative: the mean difference as a share of the baseline's |mean|. margin: the gap that matters, in the metric's
    unit. low, high: the interval of the mean difference, None if there is none. coverage: how sure it is, and what it
    is adjusted for. setting: what was trained and how it was scored (``pairing.setting``).
    """

    metric: str
    direction: Direction
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
    coverage: str = ""
    setting: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "headline": self.headline, "pairing": self.pairing}

    @property
    def said(self) -> str:
        """The outcome in words."""
        words = {
            "not yet": "not decided yet",
            "futile": "unlikely to be decided",
            "too early": "too early to be judged",
        }
        return words.get(self.outcome, self.outcome)

    @property
    def headline(self) -> str:
        """In words: "linear is worse: FD 63% higher, 8 of 8 seeds"."""
        if self.outcome == "too early":
            return f"{self.variant} is {self.said}: {self.reason}"
        way = "higher" if self.difference > 0 else "lower"
        share = self.relative and abs(self.relative)
        size = f"{abs(self.difference):.3g}" if share is None else f"{share:.{0 if share >= 0.095 else 1}%}"
        same = sum(gap * self.difference > 0 for gap in self.differences)
        of = f"{same} of {len(self.seeds)} seed{'s' * (len(self.seeds) > 1)}"
        return f"{self.variant} is {self.said}: {metrics.title(self.metric)} {size} {way}, {of}"

    @property
    def differences(self) -> tuple[float, ...]:
        return tuple(after - before for before, after in zip(self.baseline_scores, self.variant_scores, strict=True))

    @property
    def pairing(self) -> float | None:
        """What pairing by seed gained: the variance of the differences, as a share of that without pairs."""
        unpaired = np.var(self.baseline_scores) + np.var(self.variant_scores)
        return float(np.var(self.differences) / unpaired) if len(self.seeds) > 1 and unpaired else None


@dataclass(frozen=True, kw_only=True)
class Verdict(Described):
    """The result of one look.

    low, high: t intervals, which all hold together with probability ``compare.confidence``. p: of the paired t test;
    adjusted_p: multiplied by the number of verdicts; equivalence_p: of the two one-sided tests. more_seeds: how many
    would settle it with probability ``compare.power``, if the true difference is as observed, and if it is as near to
    the margin as the interval allows. The second is None for more than statistics.MOST_SEEDS, as always if the interval
    contains the margin. Both are None if there is nothing to settle, or if even the observed difference would take more
    than that.
    """

    p: float
    adjusted_p: float
    sign_flip_p: float
    equivalence_p: float
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
    settings: Compare


def compare(
    gathered: Gathered,
    by: Sequence[str],
    working: Config,
    chosen: Sequence[str] = (),
    may_differ: Collection[str] = (),
    all_pairs: bool = False,
) -> Comparison:
    """Every variant of the params keys ``by`` against the baseline, or every pair of variants.

    The baseline is the working params' variant if it was run, else the first. chosen: metrics; by default those that
    all runs have. may_differ: of ``pairing.ALIKE``, what partners need not have in common. Raises UserError if runs
    can't be compared.
    """
    by = tuple(dict.fromkeys(by))
    pairing.check_keys(by, gathered.runs, working)
    try:
        matched = runs.matching(gathered.runs, working, by)
        arms = pairing.arms(matched.runs, by, working)
        if len(arms) == 1:
            here = working.flat()
            others = [run for run in gathered.runs if pairing.values_of(run.params, by) != arms[0].values]
            hint = f"; of those with another value, {runs.most_alike(others, here, by)}" if others else ""
            line = f"only {arms[0].label} was run: `dvc exp run -S {by[0]}=VALUE` runs another"
            raise UserError(f"--by {' '.join(by)}: {line}{hint}")
        wanted = itertools.combinations(arms, 2) if all_pairs else ((arms[0], arm) for arm in arms[1:])
        pairs, dropped = pairing.paired(wanted, by)
    except UserError as error:  # what is missing may have been left out
        raise UserError("; ".join([str(error), *gathered.notes])) from error
    scored = [run for arm in arms for run in arm.runs.values()]
    fingerprint = pairing.check_fingerprints(scored, by)
    differing = pairing.check_alike(arms, may_differ)
    names = pairing.choose_metrics(scored, chosen)
    copies = []
    for arm in arms:
        if seeds := [seed for seed, run in arm.runs.items() if metrics.copied(run.scores)]:
            spaces = sorted({space for run in arm.runs.values() for space in metrics.copied(run.scores)})
            copies.append(f"{arm.label} {COPIES} ({', '.join(spaces)}) with {pairing.named(seeds)}")
    verdicts = judge(pairs, names, working.compare)
    notes = [*gathered.notes, *matched.notes, *dropped]
    return Comparison(
        by=by,
        metrics=tuple(names),
        arms=tuple(arms),
        verdicts=tuple(verdicts),
        notes=(*differing, *copies, *details(verdicts, names[0]), *notes, *too_early.note(scored, names[0])),
        fingerprint=fingerprint,
        settings=working.compare,
    )


def judge(pairs: Sequence[Pair], names: Sequence[str], settings: Compare) -> list[Verdict]:
    """A verdict for each pair, of two seeds or more, and each metric."""
    return [
        _at_one_look(metric, pair, names[0], len(pairs) * len(names), settings) for pair in pairs for metric in names
    ]


def _at_one_look(metric: str, pair: Pair, primary: str, verdicts: int, settings: Compare) -> Verdict:
    """The verdict on one metric of a pair. primary: the table's first metric. verdicts: their number in the table."""
    scores, alpha = described(metric, pair, settings), 1 - settings.confidence
    gaps, margin = np.subtract(scores["variant_scores"], scores["baseline_scores"]), scores["margin"]
    test = statistics.t_test(gaps, margin, 1 - alpha / verdicts)
    adjusted_p, flip_p = min(1.0, float(test.p) * verdicts), float(statistics.sign_flip_p(gaps))
    differs = adjusted_p < alpha and flip_p <= alpha
    shifted_p = statistics.shifted_flip_p(gaps, margin)
    excluded = bool(statistics.is_equivalent(test.equivalence_p * verdicts, shifted_p, alpha))
    tested: dict[str, Any] = {name: float(getattr(test, name)) for name in ("low", "high", "p", "equivalence_p")}
    tested["coverage"] = f"{100 * settings.confidence:g}% interval, adjusted for a table of {verdicts}"
    seen = Verdict(**scores, **tested, adjusted_p=adjusted_p, sign_flip_p=flip_p)
    outcome, reason = rule(pair, primary, seen, differs, excluded)
    if reason or outcome != "inconclusive":
        return replace(seen, outcome=outcome, reason=reason)
    # the first reason that keeps a difference from being a verdict
    fewest = statistics.fewest_seeds(alpha)
    doubts = {
        "the interval holds 0": test.p >= alpha,
        f"not after adjusting for {verdicts} verdicts": adjusted_p >= alpha,
        f"fewer than {fewest} seeds": len(seen.seeds) < fewest,
        "the sign-flip test does not agree": flip_p > alpha,
        "the gap is not above the margin": True,
    }
    doubt = next(doubt for doubt, holds in doubts.items() if holds)
    more_seeds, needs = more(seen, float(test.sd), verdicts, settings)
    return replace(seen, reason=f"{doubt}; {needs}", more_seeds=more_seeds)


def described(metric: str, pair: Pair, settings: Compare) -> dict[str, Any]:
    """The fields of ``Described``, except for the interval."""
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
        "setting": pairing.setting(metric, pair),
    }


def details(seen: Sequence[Described], primary: str) -> Iterable[str]:
    """Which verdicts rest on skewed differences, and what pairing by seed gained in the primary metric."""
    skewed = []
    for each in seen:
        skewness, share = statistics.skewness_p(np.array(each.differences))
        if each.outcome in DECIDED and share < SKEWED:
            skewed.append(f"{each.variant} in {each.metric} ({skewness:+.1f} over {len(each.seeds)} seeds)")
        if each.metric == primary and each.pairing is not None:
            yield f"pairing by seed left {each.pairing:.0%} of the variance of {each.variant} - {each.baseline}"
    if skewed:
        yield (
            f"skewed differences, as fewer than {SKEWED:.0%} of normal samples are: {', '.join(skewed)}: the error "
            "rate is that of symmetric ones"
        )


def rule(pair: Pair, primary: str, seen: Described, differs: bool, excluded: bool) -> tuple[Outcome, str]:
    """The outcome and its reason; inconclusive, without a reason, if neither holds.

    primary: the metric that decides whether it is too early for a verdict on any. differs: the tests reject "no
    difference". excluded: they reject every gap as large as the margin.
    """
    if early := too_early.reason(pair, primary):
        return "too early", early
    if metrics.is_useless(seen.metric, seen.variant_mean):
        return "useless", f"a uniform guess needs {metrics.UNIFORM:g} bits"
    if differs and abs(seen.difference) > seen.margin:
        if not _kid_agrees(pair, seen):
            return "inconclusive", "KID moved the other way"
        outcome: Outcome = "better" if metrics.gain(seen.metric, seen.difference) > 0 else "worse"
        winner, runs = (pair.variant, pair.after) if outcome == "better" else (pair.baseline, pair.before)
        if spaces := sorted({space for run in runs for space in metrics.copied(run.scores)}):
            return "inconclusive", f"{winner} {COPIES} ({', '.join(spaces)})"
        return outcome, ""
    return ("equivalent", f"any gap is below {seen.margin:.3g}") if excluded else ("inconclusive", "")


def more(seen: Described, sd: float, family: float, settings: Compare) -> tuple[tuple[int, int | None] | None, str]:
    """``Verdict.more_seeds`` for an inconclusive verdict, and a clause that states it.

    sd: of the differences. family: the number of verdicts that share the error rate equally.
    """

    def needed(difference: float) -> int | None:
        options = (seen.margin, settings.confidence, settings.power, family)
        found = statistics.seeds_needed(difference, sd, *options)
        return None if found is None else max(found - len(seen.seeds), 1)

    as_seen = needed(seen.difference)
    if as_seen is None or seen.low is None or seen.high is None:
        return None, f"{statistics.MOST_SEEDS} seeds would not settle it if the true difference is as seen"
    holds_margin = any(seen.low <= margin <= seen.high for margin in (-seen.margin, seen.margin))
    hardest = None if holds_margin else needed(min(seen.low, seen.high, key=abs))
    return (as_seen, hardest), (
        f"about {as_seen} more seed{'s' * (as_seen > 1)} would settle it if the true difference is as seen, "
        f"{hardest or f'more than {statistics.MOST_SEEDS}'} if it is as near to the margin as the interval allows"
    )


def _kid_agrees(pair: Pair, verdict: Described) -> bool:
    """Whether KID in the same features, if measured, agrees on which is better."""
    kid = metrics.kid_of(verdict.metric)
    if kid is None or any(kid not in run.scores for run in (*pair.before, *pair.after)):
        return True
    before, after = pair.scores(kid)
    return metrics.gain(kid, float((after - before).mean())) * metrics.gain(verdict.metric, verdict.difference) > 0
