"""Verdicts on runs without partners: one against a stored baseline, or arms that share no seeds."""

from dataclasses import replace

from ddpm.verdicts import statistics
from ddpm.verdicts.arms import Pair
from ddpm.verdicts.verdict import Rules, Ruling, Verdict, decide

WITHIN = Ruling("inconclusive", "within what another seed may give")


def judge_run(first: Pair, rules: Rules, fresh: Pair | None = None, *, alarms: bool = True) -> list[Verdict]:
    """A verdict for each metric on one run, ``first.after``, against a stored baseline of several.

    The run has no partners, and the sd of its kind is unknown, so it is tested with the baseline's sd, which is exact
    for normal scores; there is no sign-flip test, because there is only one sign. A run that raises an alarm in one of
    ``rules.primaries`` is "not yet" judged: the ``fresh`` runs of its kind decide (ddpm/verdicts/confirmation.py).
    alarms: whether it may raise one.
    """
    verdicts = []
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
        is_alarm = alarms and fresh is None and place < rules.primaries and worse > max(alarm, verdict.margin)
        otherwise = Ruling("not yet", "an alarm: fresh seeds decide") if is_alarm else WITHIN
        verdicts.append(decide(verdict, fresh or first, rules.known, low > 0 or high < 0, excluded, otherwise))
    return verdicts


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
