"""Which arm is better: a verdict for each pair of arms and each metric, over runs paired by training seed.

The unit of evidence is the training seed: its score is already the mean over its sampling seeds, and two arms' runs of
one seed share as much noise as they can. An arm is **better** (or worse) if the paired t test and the exact sign-flip
test reject "no difference", and the gap exceeds the metric's margin. An arm is **equivalent** if two one-sided t tests,
and the same sign-flip tests, reject every gap as large as the margin, unless both sides have the worst score there is,
which shows nothing. Everything else is **inconclusive**, with the condition that failed.

Nothing here knows what was trained: of a run, only its scores and its seed are read. Facts about the metrics, and
reasons to forbid a verdict that the tests would give (**too early**, **useless**, copies), come from outside as
``Known``; for this project's runs that is ddpm/referee/guards.py.

For normal differences, one minus ``Rules.confidence`` is the chance that any verdict of a table is false, whichever
kind it is and however early; docs/verdicts.md has the chance for other differences. The primary metric gets PRIMARY of
that error rate, in equal parts for the arms; the secondary metrics get the rest, in equal parts for arms and metrics
(Bonferroni). Parts are not passed on as in Holm's procedure: an arm that is worse by the margin can still be called
equivalent by mistake, and the part it passed on would be spent twice (6.1% instead of 5% with two arms). Only the t
tests are adjusted, because with so few seeds an adjusted sign-flip test could not reject anything.

There may be several looks (ddpm/verdicts/sequential.py); a comparison has one. The look that decides passes all tests
alone: a verdict has the direction, size, interval and p of one look. So fewer looks decide than the bounds allow, and
the error rate holds. A pair is done at the first look at which its primary metric is better, worse, equivalent or mixed
(another eye sees the opposite), or at which it is too early for a verdict; more seeds change nothing. It is **futile**
if the last look would give a verdict with a chance below FUTILE under every hope: that the true difference is one
standard error larger than observed (with the observed one, one in seven studies of an effect of one sd would stop in
vain), that it is as large as the margin, or that it is 0. You may ignore this stop: the error rate does not depend on
it, and the looks continue.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from ddpm.base.errors import plural
from ddpm.verdicts import confirmation, statistics
from ddpm.verdicts.arms import Arm, Pair, subtract
from ddpm.verdicts.sequential import Design

Direction = Literal["higher", "lower"]
Outcome = Literal["better", "worse", "equivalent", "mixed", "too early", "useless", "inconclusive", "futile", "not yet"]
Early = Literal["too early", "useless"]
DECIDED: tuple[Outcome, ...] = ("better", "worse", "equivalent")
WORDS = {"not yet": "not decided yet", "futile": "unlikely to be decided", "too early": "too early to be judged"}
PRIMARY = 0.9  # the primary metric's share of the error rate
FUTILE = 0.1
NOTHING = "both are next to 0, the worst there is"
NO_ANSWER = 3  # exit code


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """An arm's scores next to a baseline's in one metric; differences are arm minus baseline, seed by seed.

    Without a complete look nothing is tested: ``seeds`` are the available ones, and look, low, high and p are None.
    """

    metric: str
    title: str  # of the metric, for people
    direction: Direction
    baseline: str
    arm: str
    seeds: tuple[int, ...]  # none if the runs are not paired
    baseline_scores: tuple[float, ...]
    arm_scores: tuple[float, ...]
    baseline_mean: float
    arm_mean: float
    difference: float  # of the means
    relative: float | None  # the difference as a share of the baseline's |mean|
    margin: float  # the smallest gap that matters, in the metric's unit
    setting: str = ""  # what was trained and how it was scored
    outcome: Outcome = "not yet"
    reason: str = "no look is complete"
    look: int | None = None  # the number of seeds at which it was decided, or of its last look
    low: float | None = None  # the repeated confidence interval (Jennison & Turnbull 1989): exact, valid at every
    high: float | None = None  # look, and for the whole table together
    coverage: str = ""  # how sure the interval is, and what it is adjusted for
    p: float | None = None  # of the look, adjusted for the whole table and all looks
    overridden: bool = False  # by an objection, which ``reason`` is

    @classmethod
    def of(cls, metric: str, pair: Pair, known: Known) -> Verdict:
        """The verdict before any test, from the pair's scores."""
        before, after = pair.scores(metric)
        seeds = tuple(run.seed for run in pair.after if run.seed is not None)
        baseline, difference = float(before.mean()), float(subtract(before, after, bool(seeds)).mean())
        return cls(
            metric=metric,
            title=known.title(metric),
            direction=known.direction(metric),
            baseline=pair.baseline,
            arm=pair.arm,
            seeds=seeds,
            baseline_scores=tuple(before.tolist()),
            arm_scores=tuple(after.tolist()),
            baseline_mean=baseline,
            arm_mean=float(after.mean()),
            difference=difference,
            relative=difference / abs(baseline) if baseline else None,
            margin=known.margin(metric, baseline),
            setting=known.setting(metric, pair),
        )

    def to_dict(self) -> dict[str, Any]:
        """The verdict as a mapping for JSON."""
        added = {"worst": self.worst, "collapse_rate": self.collapse_rate, "headline": self.headline}
        return {name: value for name, value in asdict(self).items() if name not in ("title", "overridden")} | added

    @property
    def said(self) -> str:
        """The outcome in words."""
        return WORDS.get(self.outcome, self.outcome)

    @property
    def headline(self) -> str:
        """The verdict in words: "linear is worse: FD 63% higher, 8 of 8 seeds". If it is overridden, only that."""
        if self.overridden:
            return self.reason
        if self.outcome == "too early":
            return f"{self.arm} is {self.said}: {self.reason}"
        way = "higher" if self.difference > 0 else "lower"
        share = self.relative and abs(self.relative)
        size = f"{abs(self.difference):.3g}" if share is None else f"{share:.{0 if share >= 0.095 else 1}%}"
        same = sum(gap * self.difference > 0 for gap in self.differences)
        of = f"{same} of {plural(len(self.differences), 'seed' if self.seeds else 'run')}"
        but = f", but {self.reason}" if self.outcome == "mixed" else ""
        return f"{self.arm} is {self.said}: {self.title} {size} {way}, {of}{but}"

    @property
    def worst(self) -> float | None:
        """The difference of the seed that contradicts the mean difference most; None for one run."""
        return min(self.differences, key=lambda gap: gap * self.difference) if len(self.seeds) > 1 else None

    @property
    def collapse_rate(self) -> float | None:
        """The share of all seeds that may be worse than the worst of these; None for one run."""
        return statistics.collapse_rate(len(self.seeds)) if len(self.seeds) > 1 else None

    @property
    def differences(self) -> tuple[float, ...]:
        """The differences seed by seed, as ``subtract`` has them."""
        scores = np.array(self.baseline_scores), np.array(self.arm_scores)
        return tuple(subtract(*scores, bool(self.seeds)).tolist())


class Ruling(NamedTuple):
    """An outcome, and why. overrides: whether it is the news, whatever the tests show."""

    outcome: Outcome
    reason: str
    overrides: bool = False


OPEN = Ruling("inconclusive", "")


class Known(Protocol):
    """Facts about each metric, and guards against verdicts that the tests alone would give. They come from outside."""

    def title(self, metric: str, /) -> str:
        return metric

    def direction(self, metric: str, /) -> Direction: ...

    def axis(self, metric: str, /) -> str:
        """Its title, and which direction is better, such as "FD (lower is better)"."""
        return f"{self.title(metric)} ({self.direction(metric)} is better)"

    def gain(self, metric: str, difference: float, /) -> float:
        """A difference in the metric, signed so that positive is better."""
        return difference if self.direction(metric) == "higher" else -difference

    def check_distinct(self, arms: Iterable[Arm], /) -> None:
        """Raises UserError if two seeds of an arm are the same run."""
        return

    def list_against(self, pair: Pair, outcome: Outcome, /) -> list[str]:
        """What contradicts that the arm is better, or worse, as the primary metric says."""
        return []

    def margin(self, metric: str, baseline: float, /) -> float:
        """The smallest gap that matters, in the metric's unit. baseline: the baseline's mean."""

    def setting(self, metric: str, pair: Pair, /) -> str:
        """Training data and scoring of the pair, in words; empty if unknown."""
        return ""

    def is_worst(self, verdict: Verdict, /) -> bool:
        """Whether both sides have the worst score there is, which shows nothing."""
        return False

    def forbids(self, pair: Pair, verdict: Verdict, /) -> Ruling | None:
        """The outcome where the tests do not count; None where they do."""
        return None

    def forbids_means(self, pair: Pair, metric: str, before: float, after: float, /) -> Early | None:
        """The outcome of both means in the course of a training, where the tests do not count; None where they do."""
        return None

    def doubts(self, pair: Pair, verdict: Verdict, outcome: Outcome, /) -> Ruling | None:
        """The outcome instead of calling a difference that the tests show better or worse; None without one."""
        return None


class Rules(NamedTuple):
    """How the pairs of a table are judged."""

    known: Known
    confidence: float  # that all verdicts of the table hold together
    names: Sequence[str]  # of the metrics, the primary one first
    pairs: int  # that share the error rate
    design: Design
    primaries: int = 1  # how many of the names share the primary metric's part

    @property
    def alpha(self) -> float:
        """The error rate of the table."""
        return 1 - self.confidence

    def family(self, metric: str) -> float:
        """The factor by which a verdict's p value is multiplied."""
        if metric in self.names[: self.primaries]:
            return self.pairs * self.primaries / PRIMARY
        return self.pairs * (len(self.names) - self.primaries) / (1 - PRIMARY)

    def bounds(self, metric: str, stored: int) -> tuple[float, float, float]:
        """``confirmation.bounds`` of a run against ``stored`` others; half of the error rate is for the better side."""
        return confirmation.bounds(stored, self.alpha / self.family(metric) / 2)

    @property
    def coverage(self) -> str:
        """How sure the intervals are, and what they are adjusted for."""
        table = f"{plural(self.pairs, 'comparison')} in {plural(len(self.names), 'metric')}"
        *early, last = self.design.looks
        looked = f" and for looks at {', '.join(map(str, early))} and {last} seeds" if early else ""
        return f"{100 * self.confidence:g}% interval, adjusted for {table}{looked}"


def judge(pair: Pair, rules: Rules, complete: Sequence[int]) -> list[Verdict]:
    """A verdict for each metric, the primary one's first: it decides when the pair is done.

    complete: the looks for which the pair has all seeds, in order.
    """
    primary = _replay_looks(pair, rules.names[0], rules, complete)
    verdicts = [primary]
    looked = [look for look in complete if look <= (primary.look or 0)]
    for name in rules.names[1:]:
        verdict = _replay_looks(pair, name, rules, looked)
        if verdict.outcome == "not yet" and primary.outcome != "not yet":
            reason = NOTHING if rules.known.is_worst(verdict) else "undecided at the primary metric's last look"
            verdict = replace(verdict, outcome="inconclusive", reason=reason, overridden=False)
        verdicts.append(verdict)
    return verdicts


def _replay_looks(pair: Pair, metric: str, rules: Rules, complete: Sequence[int]) -> Verdict:
    """The verdict, look by look, up to the first complete look that decides."""
    known, alpha, design, family = rules.known, rules.alpha, rules.design, rules.family(metric)
    level = alpha / family
    if not complete:
        return Verdict.of(metric, pair, known)
    for place, look in enumerate(complete):
        so_far = pair._replace(before=pair.before[:look], after=pair.after[:look])
        verdict = Verdict.of(metric, so_far, known)
        gaps, margin = np.array(verdict.differences), verdict.margin
        test = statistics.t_test(gaps, margin, rules.confidence)
        error = float(test.sd) / math.sqrt(look)
        half = float(design.bounds(level)[place]) * error
        beyond = abs(verdict.difference) > half
        flips = beyond and look in design.sign_flips(gaps, alpha)  # which takes longer than everything else
        one_sided = float(design.p(place, 2 * test.equivalence_p)) / 2  # half of a two-sided design's
        flipped = (look in design.sign_flips(gaps + shift, 2 * alpha) for shift in (-margin, margin))
        excluded = one_sided <= level and not known.is_worst(verdict) and all(flipped)
        low, high = verdict.difference - half, verdict.difference + half
        p = min(1.0, float(design.p(place, test.p)) * family)
        verdict = replace(verdict, look=look, low=low, high=high, coverage=rules.coverage, p=p)
        verdict = decide(verdict, so_far, known, flips, excluded)
        if verdict.outcome != "inconclusive" or (flips and verdict.overridden):
            return verdict
    if look == design.looks[-1]:
        doubt = NOTHING if known.is_worst(verdict) else _doubt(verdict, beyond, flips, alpha)
        return replace(verdict, reason=verdict.reason or doubt)
    if metric != rules.names[0]:
        return replace(verdict, outcome="not yet")
    hopes = (math.copysign(size, verdict.difference) for size in (0.0, margin, abs(verdict.difference) + error))
    chance = max(design.chance(level, gaps, hope, float(test.sd), margin) for hope in hopes)
    expected = f"a verdict by {design.looks[-1]} seeds has a chance of {chance:.0%}"
    reason = verdict.reason if verdict.overridden else expected
    return replace(verdict, outcome="futile" if chance < FUTILE else "not yet", reason=reason)


def decide(
    verdict: Verdict, pair: Pair, known: Known, differs: bool, excluded: bool, otherwise: Ruling = OPEN
) -> Verdict:
    """The verdict with its outcome and the reason.

    differs: the tests reject "no difference". excluded: they reject every gap as large as the margin. otherwise: the
    end if they reject nothing.
    """
    outcome: Outcome = "better" if (verdict.difference > 0) == (verdict.direction == "higher") else "worse"
    doubt = known.doubts(pair, verdict, outcome)
    if doubt and doubt.overrides:  # however few the seeds
        end = doubt
    elif forbidden := known.forbids(pair, verdict):
        end = forbidden
    elif differs and abs(verdict.difference) > verdict.margin:
        end = doubt or Ruling(outcome, "")
    else:
        end = Ruling("equivalent", f"any gap is below {verdict.margin:.3g}") if excluded else otherwise
    return replace(verdict, outcome=end.outcome, reason=end.reason, overridden=end.overrides)


def _doubt(verdict: Verdict, beyond: bool, flips: bool, alpha: float) -> str:
    """The reason why a difference is not a verdict at the last look."""
    if not beyond:
        return "the interval contains 0"
    if len(verdict.seeds) < (fewest := statistics.fewest_seeds(alpha)):
        return f"fewer than {fewest} seeds"
    return "the gap is not above the margin" if flips else "the sign-flip test does not agree"


def exit_code(verdicts: Iterable[Verdict], primary: str) -> int:
    """NO_ANSWER if every verdict on the primary metric is "too early", otherwise 0."""
    outcomes = {verdict.outcome for verdict in verdicts if verdict.metric == primary}
    return NO_ANSWER if outcomes == {"too early"} else 0
