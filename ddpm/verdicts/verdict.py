"""Which arm is better: a verdict for each pair of arms and each metric, over runs paired by training seed.

The unit of evidence is the training seed: its score is already the mean over its sampling seeds, and two arms' runs of
one seed share as much noise as they can. An arm is **better** (or worse) if the paired t test and the exact sign-flip
test reject "no difference"; the gap exceeds the metric's margin; and, for a Fréchet distance, KID in the same features
(if measured) moved the same way, because KID has no bias and the Fréchet distance has one that depends on the model
(Chong & Forsyth 2020, arXiv:1911.07023). An arm that copies train images is never the better one
(ddpm/scoring/memorisation.py): copies score like real images.

Two arms that both score worse than a Gaussian fitted to the train images, in the mean of the primary metric over their
runs, have learned nothing yet: whatever they differ in, it is **too early** for a verdict. The Gaussian is scored like
samples (ddpm/scoring/yardsticks.py).

An arm is **equivalent** if two one-sided t tests, and the same sign-flip tests, reject every gap as large as the
margin, unless both sides have next to 0 precision or recall, which shows nothing. A likelihood no better than a uniform
guess's is **useless**. Everything else is **inconclusive**, with the condition that failed.

One minus ``compare.confidence`` is the chance that any verdict of a table is false, whichever kind it is and however
early, for normal differences; docs/verdicts.md has the others. The primary metric gets PRIMARY of that error rate,
in equal parts for the arms; the secondary metrics get the rest, in equal parts for arms and metrics (Bonferroni). Parts
are not passed on as in Holm's procedure: an arm that is worse by the margin can still be called equivalent by mistake,
and the part it passed on would be spent twice (6.1% instead of 5% with two arms). Only the t tests are adjusted, as an
adjusted sign-flip test could reject nothing with so few seeds.

There may be several looks (ddpm/verdicts/sequential.py); a comparison has one. The look that decides passes all tests
itself: a verdict has the direction, size, interval and p of one look. So fewer looks decide than the bounds allow, and
the error rate holds. A pair is done at the first look at which its primary metric is better, worse or equivalent, or at
which it is too early for a verdict; more seeds change nothing. It is **futile** if the last look would give a verdict
with a chance below FUTILE under every hope: that the true difference is one standard error larger than observed (taken
as observed, one in seven studies of an effect of one sd would stop in vain), that it is as large as the margin, or that
it is 0. That stop is not binding: no bound relies on it, so if the seeds are run anyway, the looks continue.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np

from ddpm.base.errors import plural
from ddpm.params.config import Compare
from ddpm.scoring.metric import Direction
from ddpm.verdicts import metrics, pairing, statistics
from ddpm.verdicts.metrics import COPIES
from ddpm.verdicts.pairing import Pair
from ddpm.verdicts.sequential import Design

Outcome = Literal["better", "worse", "equivalent", "too early", "useless", "inconclusive", "futile", "not yet"]
DECIDED: tuple[Outcome, ...] = ("better", "worse", "equivalent")
WORDS = {"not yet": "not decided yet", "futile": "unlikely to be decided", "too early": "too early to be judged"}
PRIMARY = 0.9  # the primary metric's share of the error rate
FUTILE = 0.1
NOTHING = "both are next to 0, the worst there is"
NO_ANSWER = 3  # exit code


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """An arm's scores next to a baseline's in one metric; differences are arm minus baseline, seed by seed.

    relative: the mean difference as a share of the baseline's |mean|. margin: the gap that matters, in the metric's
    unit. setting: what was trained and how it was scored (``pairing.setting``). look: the number of seeds at which it
    was decided, or else of its last look. low, high: the repeated confidence interval (Jennison & Turnbull 1989):
    exact, valid at every look, and for the whole table together; coverage says how sure it is and what it is adjusted
    for. p: of that look, and adjusted for the whole table and all looks. These are None if no look is complete: then
    ``seeds`` are the available ones, and nothing is tested.
    """

    metric: str
    direction: Direction
    baseline: str
    arm: str
    seeds: tuple[int, ...]
    baseline_scores: tuple[float, ...]
    arm_scores: tuple[float, ...]
    baseline_mean: float
    arm_mean: float
    difference: float
    relative: float | None
    margin: float
    setting: str = ""
    outcome: Outcome = "inconclusive"
    reason: str = ""
    look: int | None = None
    low: float | None = None
    high: float | None = None
    coverage: str = ""
    p: float | None = None

    @classmethod
    def of(cls, metric: str, pair: Pair, compare: Compare) -> Verdict:
        """A verdict that is not tested yet, from the pair's scores."""
        before, after = pair.scores(metric)
        baseline, difference = float(before.mean()), float((after - before).mean())
        return cls(
            metric=metric,
            direction=metrics.direction(metric),
            baseline=pair.baseline,
            arm=pair.arm,
            seeds=tuple(run.seed or 0 for run in pair.after),
            baseline_scores=tuple(before.tolist()),
            arm_scores=tuple(after.tolist()),
            baseline_mean=baseline,
            arm_mean=float(after.mean()),
            difference=difference,
            relative=difference / abs(baseline) if baseline else None,
            margin=metrics.margin(metric, baseline, compare),
            setting=pairing.setting(metric, pair),
            outcome="not yet",
            reason="no look is complete",
        )

    def to_dict(self) -> dict[str, Any]:
        """The verdict as a mapping for JSON."""
        added = {"worst": self.worst, "collapse_rate": self.collapse_rate, "headline": self.headline}
        return {**asdict(self), **added}

    @property
    def said(self) -> str:
        """The outcome in words."""
        return WORDS.get(self.outcome, self.outcome)

    @property
    def headline(self) -> str:
        """In words: "linear is worse: FD 63% higher, 8 of 8 seeds"; of an arm that copies, that it does."""
        if COPIES in self.reason:
            return self.reason
        if self.outcome == "too early":
            return f"{self.arm} is {self.said}: {self.reason}"
        way = "higher" if self.difference > 0 else "lower"
        share = self.relative and abs(self.relative)
        size = f"{abs(self.difference):.3g}" if share is None else f"{share:.{0 if share >= 0.095 else 1}%}"
        same = sum(gap * self.difference > 0 for gap in self.differences)
        of = f"{same} of {plural(len(self.differences), 'seed')}"
        return f"{self.arm} is {self.said}: {metrics.title(self.metric)} {size} {way}, {of}"

    @property
    def worst(self) -> float | None:
        """The difference of the seed that speaks most against the mean difference; None for one run."""
        return min(self.differences, key=lambda gap: gap * self.difference) if len(self.seeds) > 1 else None

    @property
    def collapse_rate(self) -> float | None:
        """The share of all seeds that may be worse than the worst; None for one run."""
        return statistics.collapse_rate(len(self.seeds)) if len(self.seeds) > 1 else None

    @property
    def differences(self) -> tuple[float, ...]:
        """Seed by seed, or of one run from each of a stored baseline."""
        return tuple(np.subtract(self.arm_scores, self.baseline_scores).tolist())


class Rules(NamedTuple):
    """How the pairs of a table are judged. names: of its metrics, the primary one first. pairs: how many share the
    error rate. primaries: how many of the names share the primary metric's part."""

    compare: Compare
    names: Sequence[str]
    pairs: int
    design: Design
    primaries: int = 1

    @property
    def alpha(self) -> float:
        return 1 - self.compare.confidence

    def family(self, metric: str) -> float:
        """One over a verdict's part of the error rate."""
        if metric in self.names[: self.primaries]:
            return self.pairs * self.primaries / PRIMARY
        return self.pairs * (len(self.names) - self.primaries) / (1 - PRIMARY)

    @property
    def coverage(self) -> str:
        """How sure the intervals are, and what they are adjusted for."""
        table = f"{plural(self.pairs, 'comparison')} in {len(self.names)} metrics"
        *early, last = self.design.looks
        looked = f" and for looks at {', '.join(map(str, early))} and {last} seeds" if early else ""
        return f"{100 * self.compare.confidence:g}% interval, adjusted for {table}{looked}"


def judge(pair: Pair, rules: Rules, complete: Sequence[int]) -> list[Verdict]:
    """A verdict for each metric, the primary one's first: it decides when the pair is done.

    complete: the looks for which the pair has all seeds, in order.
    """
    primary = _replayed(pair, rules.names[0], rules, complete)
    verdicts = [primary]
    looked = [look for look in complete if look <= (primary.look or 0)]
    for name in rules.names[1:]:
        verdict = _replayed(pair, name, rules, looked)
        if verdict.outcome == "not yet" and primary.outcome != "not yet":
            reason = NOTHING if _shows_nothing(verdict) else "undecided at the primary metric's last look"
            verdict = replace(verdict, outcome="inconclusive", reason=reason)
        verdicts.append(verdict)
    return verdicts


def judge_run(pair: Pair, rules: Rules) -> list[Verdict]:
    """A verdict for each metric on one run, ``pair.after``, against a stored baseline of several.

    It has no partners, and its sd is not known. So the test is that of one value against the others, whose sd it is
    taken to have, too: exact for normal scores. No sign-flip test can confirm it: it has one sign.
    """
    verdicts = []
    for name in rules.names:
        verdict, family = Verdict.of(name, pair, rules.compare), rules.family(name)
        (before, (value,)), level = pair.scores(name), rules.alpha / family
        test = statistics.t_test_of_one(float(value), before, verdict.margin, 1 - level)
        outcome, reason = _rule(pair, rules.names[0], verdict, bool(test.p <= level), bool(test.equivalence_p <= level))
        verdicts.append(
            replace(
                verdict,
                outcome=outcome,
                reason=reason or "another seed may do that" * (outcome == "inconclusive"),
                look=1,
                low=float(test.low),
                high=float(test.high),
                coverage=rules.coverage,
                p=min(1.0, float(test.p) * family),
            )
        )
    return verdicts


def _replayed(pair: Pair, metric: str, rules: Rules, complete: Sequence[int]) -> Verdict:
    """The verdict, look by look, up to the first complete look that decides."""
    compare, alpha, design, family = rules.compare, rules.alpha, rules.design, rules.family(metric)
    is_primary, level, last = metric == rules.names[0], alpha / family, design.looks[-1]
    verdict = Verdict.of(metric, pair, compare)
    for place, look in enumerate(complete):
        so_far = pair._replace(before=pair.before[:look], after=pair.after[:look])
        verdict = replace(Verdict.of(metric, so_far, compare), look=look, coverage=rules.coverage)
        gaps = np.array(verdict.differences)
        test = statistics.t_test(gaps, verdict.margin, compare.confidence)
        error, sd = float(test.sd) / math.sqrt(look), float(test.sd)
        half = float(design.bounds(level)[place]) * error
        beyond, flips = abs(verdict.difference) > half, look in design.sign_flips(gaps, alpha)
        one_sided = float(design.p(place, 2 * test.equivalence_p)) / 2  # half of a two-sided design's
        excluded = (
            one_sided <= level
            and not _shows_nothing(verdict)
            and all(look in design.sign_flips(gaps + shift, 2 * alpha) for shift in (-verdict.margin, verdict.margin))
        )
        outcome, reason = _rule(so_far, rules.names[0], verdict, beyond and flips, excluded)
        verdict = replace(
            verdict,
            low=verdict.difference - half,
            high=verdict.difference + half,
            p=min(1.0, float(design.p(place, test.p)) * family),
            outcome=outcome,
            reason=reason,
        )
        if outcome != "inconclusive" or COPIES in reason:
            return verdict
        if look == last:
            return replace(verdict, reason=reason or _doubt(verdict, beyond, flips, rules))
    if complete and is_primary:
        sizes = (0.0, verdict.margin, abs(verdict.difference) + error)
        hopes = (math.copysign(size, verdict.difference) for size in sizes)
        chance = max(design.chance(level, gaps, hope, sd, verdict.margin) for hope in hopes)
        says = f"a verdict by {last} seeds has a chance of {chance:.0%}"
        return replace(verdict, outcome="futile" if chance < FUTILE else "not yet", reason=says)
    return replace(verdict, outcome="not yet") if complete else verdict


def _rule(pair: Pair, primary: str, verdict: Verdict, differs: bool, excluded: bool) -> tuple[Outcome, str]:
    """The outcome and its reason; inconclusive, without a reason, if neither holds.

    primary: the metric that decides whether it is too early for a verdict on any. differs: the tests reject "no
    difference". excluded: they reject every gap as large as the margin.
    """
    if early := _too_early(pair, primary):
        return "too early", early
    if metrics.is_useless(verdict.metric, verdict.arm_mean):
        return "useless", f"a uniform guess needs {metrics.UNIFORM:g} bits"
    if differs and abs(verdict.difference) > verdict.margin:
        if not _kid_agrees(pair, verdict):
            return "inconclusive", "KID moved the other way"
        outcome: Outcome = "better" if metrics.gain(verdict.metric, verdict.difference) > 0 else "worse"
        winner, runs = (pair.arm, pair.after) if outcome == "better" else (pair.baseline, pair.before)
        if spaces := sorted({space for run in runs for space in metrics.copied(run.scores)}):
            return "inconclusive", f"{winner} {COPIES} ({', '.join(spaces)})"
        return outcome, ""
    return ("equivalent", f"any gap is below {verdict.margin:.3g}") if excluded else ("inconclusive", "")


def _too_early(pair: Pair, primary: str) -> str:
    """Why no verdict is possible yet, in words; empty if one is, or if some run has no yardstick."""
    gaussian = metrics.gaussian([run.scores for run in pair.runs], primary)
    means = [float(scores.mean()) for scores in pair.scores(primary)]
    if gaussian is None or not all(mean > gaussian for mean in means):
        return ""
    shown = f"{metrics.title(primary)} {means[0]:.3g} and {means[1]:.3g}, a Gaussian {gaussian:.3g}"
    return f"both score worse than a Gaussian fitted to the train images ({shown}), so they have learned nothing yet"


def _kid_agrees(pair: Pair, verdict: Verdict) -> bool:
    """Whether KID in the same features, if measured, agrees on which is better."""
    kid = metrics.kid_of(verdict.metric)
    if kid is None or any(kid not in run.scores for run in pair.runs):
        return True
    before, after = pair.scores(kid)
    return metrics.gain(kid, float((after - before).mean())) * metrics.gain(verdict.metric, verdict.difference) > 0


def _shows_nothing(verdict: Verdict) -> bool:
    """Whether both sides have the worst share there is."""
    return metrics.is_next_to_0(verdict.metric, max(verdict.baseline_mean, verdict.arm_mean), verdict.margin)


def _doubt(verdict: Verdict, beyond: bool, flips: bool, rules: Rules) -> str:
    """What keeps a difference from being a verdict at the last look."""
    fewest = statistics.fewest_seeds(rules.alpha)
    if _shows_nothing(verdict):
        return NOTHING
    if not beyond:
        return "the interval holds 0"
    if len(verdict.seeds) < fewest:
        return f"fewer than {fewest} seeds"
    return "the gap is not above the margin" if flips else "the sign-flip test does not agree"


def exit_code(verdicts: Iterable[Verdict], primary: str) -> int:
    """NO_ANSWER if it is too early for every verdict on the primary metric, otherwise 0."""
    outcomes = {verdict.outcome for verdict in verdicts if verdict.metric == primary}
    return NO_ANSWER if outcomes == {"too early"} else 0
