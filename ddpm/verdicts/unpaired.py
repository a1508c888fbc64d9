"""Verdicts on runs without partners: one against a stored baseline, or arms that share no seeds."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ddpm.verdicts import statistics
from ddpm.verdicts.arms import Pair
from ddpm.verdicts.confirmation import FRESH, regressions_noticed
from ddpm.verdicts.verdict import PRIMARY, Rules, Ruling, Verdict, decide

MIN_SEEDS = 5  # of a baseline for one run; more than FRESH
NOTICED = (0.5, 0.9)  # chances
WITHIN = Ruling("inconclusive", "within what another seed may give")
ALARM = Ruling("not yet", "an alarm: fresh seeds decide")
UNCHANGED = Ruling("inconclusive", "no alarm: the baseline's scores of this seed to the last digit, nothing changed")


def next_seeds(runs: Iterable[Any], count: int = FRESH) -> range:
    """The seeds that decide an alarm: always the same ones, so that nobody can choose them by their scores."""
    first = 1 + max(run.seed or 0 for run in runs)
    return range(first, first + count)


def judge_run(first: Pair, rules: Rules, fresh: Pair | None = None) -> list[Verdict]:
    """A verdict for each metric on one run, ``first.after``, against a stored baseline of several.

    The run has no partners, and the sd of its kind is unknown, so it is tested with the baseline's sd, which is exact
    for normal scores; there is no sign-flip test, because there is only one sign. A run that raises an alarm in one of
    ``rules.primaries`` is "not yet" judged: the ``fresh`` runs of its kind decide (ddpm/verdicts/confirmation.py).
    A run that is one of the baseline's, the worst of which may be beyond the limit, raises none.
    """
    (run,), verdicts = first.after, []
    changed = all(one.seed != run.seed or one.scores.items() - run.scores.items() for one in first.before)
    for place, name in enumerate(rules.names):
        verdict = Verdict.of(name, fresh or first, rules.known)
        stored, one = first.scores(name)
        gap, sd = float(one[0] - stored.mean()), float(stored.std(ddof=1))
        at_once, alarm, confirm = (sd * bound for bound in rules.bounds(name, len(stored)))
        low, high = gap - at_once, gap + at_once
        if fresh:  # every difference that the two steps do not reject
            low = max(low, min(gap - alarm, verdict.difference - confirm))
            high = min(high, max(gap + alarm, verdict.difference + confirm))
        verdict = replace(verdict, look=len(verdict.seeds), low=low, high=high, coverage=rules.coverage)
        excluded = -verdict.margin < low and high < verdict.margin
        worse = gap if verdict.direction == "lower" else -gap
        is_alarm = fresh is None and place < rules.primaries and worse > max(alarm, verdict.margin)
        otherwise = (ALARM if changed else UNCHANGED) if is_alarm else WITHIN
        verdicts.append(decide(verdict, fresh or first, rules.known, low > 0 or high < 0, excluded, otherwise))
    return verdicts


def describe_bounds(verdicts: Sequence[Verdict], rules: Rules) -> Iterator[str]:
    """What ``judge_run`` promises and, for each metric that may raise an alarm, how much worse its score may be and the
    regressions that are noticed with chances of NOTICED. verdicts: those of one run."""
    percent = 50 * PRIMARY * rules.alpha
    yield (
        f"the gate decides by {' and '.join(rules.names[: rules.primaries])}: if scores are normal, a change that "
        f"makes nothing worse fails there at most {percent:.3g} times in 100, on average over baselines"
    )
    for judged in verdicts[: rules.primaries]:
        stored, mean = judged.baseline_scores, abs(judged.baseline_mean)
        sd = float(np.std(stored, ddof=1))
        limits = np.maximum(sd * np.array(rules.bounds(judged.metric, len(stored))), judged.margin)
        gaps = *limits, *regressions_noticed(limits, sd, np.array(NOTICED))
        at_once, alarm, confirm, *seen = (f"{gap:.3g}" + (f" ({gap / mean:.0%})" if mean else "") for gap in gaps)
        noticed = " and of ".join(f"{gap} in {chance:.0%} of runs" for gap, chance in zip(seen, NOTICED, strict=True))
        yield (
            f"{judged.metric}: worse than the baseline's mean by {alarm} is an alarm, by {at_once} a failure; {FRESH} "
            f"fresh seeds confirm an alarm if their mean is worse by {confirm}. This notices a regression of {noticed}"
        )


def judge_unpaired(pair: Pair, rules: Rules) -> list[Verdict]:
    """A verdict for each metric on several runs that share no seeds with the baseline's.

    They are tested by Welch's t test. There is no sign-flip test, because there are no pairs; so that no verdict is
    cheaper than with pairs, each side needs as many runs as that test needs seeds.
    """
    fewest, fewer, verdicts = statistics.fewest_seeds(rules.alpha), min(map(len, pair[2:])), []
    for name in rules.names:
        verdict, family = Verdict.of(name, pair, rules.known), rules.family(name)
        (before, after), level = pair.scores(name), rules.alpha / family
        test, enough = statistics.welch_test(before, after, verdict.margin, 1 - level), fewer >= fewest
        differs, excluded = enough and bool(test.p <= level), enough and bool(test.equivalence_p <= level)
        low, high, p = float(test.low), float(test.high), min(1.0, float(test.p) * family)
        verdict = replace(verdict, look=fewer, low=low, high=high, coverage=rules.coverage, p=p)
        otherwise = WITHIN if enough else Ruling("inconclusive", f"fewer than {fewest} runs of an arm")
        verdicts.append(decide(verdict, pair, rules.known, differs, excluded, otherwise))
    return verdicts
