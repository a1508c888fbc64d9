"""The gate's statistics, against scipy and by simulation."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from ddpm.params.config import Compare
from ddpm.referee import guards
from ddpm.verdicts import unpaired
from ddpm.verdicts.arms import Pair
from ddpm.verdicts.confirmation import FRESH, bounds
from ddpm.verdicts.sequential import Design
from ddpm.verdicts.verdict import Verdict
from tests.scored import rescored, result

FD, PRECISION, BITS = "classifier.fd", "classifier.precision", "bits_per_dim"
RUN = result()
NO_FLOORS = Compare(floors={}, threshold=0)
Scores = dict[str, float]
# regression of the distance -> the share of runs that fail, and the mean number of runs
TABLE = [(0.0, 0.0225, 1.83), (0.1, 0.08, 2.2), (0.25, 0.37, 2.9), (0.5, 0.91, 3.4), (1.0, 1.0, 1.5)]


def verdicts(
    scores: Scores, baseline, compare: Compare = NO_FLOORS, primaries: int = 0, fresh: Sequence[Scores] = ()
) -> list[Verdict]:
    """Of a run with these scores, or its fresh ones, against others, all of which share the error rate, or the first
    ``primaries``."""
    before, *after = (
        tuple(rescored(RUN, first + seed, each) for seed, each in enumerate(runs))
        for first, runs in ((0, baseline), (99, [scores]), (100, fresh))
    )
    rules = guards.rules(compare, [*scores], 1, Design((1,)), primaries=primaries or len(scores))
    first, *others = (Pair("baseline", "run", before, runs) for runs in after if runs)
    return unpaired.judge_run(first, rules, *others)


@pytest.mark.parametrize(("stored", "level"), [(5, 0.01125), (12, 0.001), (6, 0.2)])
def test_the_bounds_fail_and_alarm_as_many_honest_runs_as_they_promise(stored, level):
    draws = np.random.default_rng(0).standard_normal((200_000, stored + 1 + FRESH))
    before, first, fresh = draws[:, :stored], draws[:, stored], draws[:, stored + 1 :].mean(1)
    mean, sd = before.mean(1), before.std(1, ddof=1)
    at_once, alarm, confirm = bounds(stored, level)
    fails = first > mean + at_once * sd
    alarms = ~fails & (first > mean + alarm * sd)
    confirmed = alarms & (fresh > mean + confirm * sd)
    rates = [np.mean(fails), np.mean(fails | alarms), np.mean(fails | confirmed)]
    for rate, promise in zip(rates, (0.1 * level, max(0.15, 2 * level), level), strict=True):
        assert rate == pytest.approx(promise, abs=4 * math.sqrt(promise / len(draws)))


@pytest.mark.parametrize(("name", "bad"), [(FD, 1), (PRECISION, -1)])
@pytest.mark.parametrize(("others", "share"), [(0, 0.9), (2, 0.9)])
def test_only_a_change_to_the_bad_side_and_past_the_interval_is_worse(name, bad, others, share):
    values = [4.9, 5.0, 5.1, 5.0, 5.2]
    rest = {f"extractor{number}.is_mean": 7.0 for number in range(others)}
    reach = stats.t.isf(0.1 * 0.05 * share / 2, 4) * np.std(values, ddof=1) * math.sqrt(1.2)
    baseline = [{name: value, **rest} for value in values]
    alarm = stats.t.isf(0.15, 4) * np.std(values, ddof=1) * math.sqrt(1.2) / reach
    for offset, outcome in (
        (-1.001, "better"), (-0.999, "inconclusive"), (0.999 * alarm, "inconclusive"), (1.001 * alarm, "not yet"),
        (0.999, "not yet"), (1.001, "worse"),
    ):  # fmt: skip
        first, *_ = verdicts({name: np.mean(values) + bad * offset * reach, **rest}, baseline, primaries=1)
        assert first.outcome == outcome
        assert (first.low > 0 or first.high < 0) == (outcome in ("better", "worse"))
        assert first.differences == pytest.approx((bad * offset * reach,))
        assert first.headline.startswith(f"run is {first.said}: ")


def test_a_change_below_the_floor_is_never_worse_and_one_within_it_may_be_equivalent():
    floors = Compare(floors={"fd": 0.5}, threshold=0)
    baseline = [{FD: 1 + 0.01 * seed} for seed in range(5)]
    outcomes = [verdicts({FD: 1.02 + gap}, baseline, floors)[0].outcome for gap in (0.0, 0.48, 0.499, 0.501)]
    assert outcomes == ["equivalent", "inconclusive", "inconclusive", "worse"]


def failures(n: int, trials: int, effect: float = 0.0) -> tuple[float, float]:
    """The share of runs that fail against a baseline of ``n`` seeds, and the mean number of runs until that is known.

    Scores are standard normals of two metrics. effect: the first one's regression, in sd.
    """
    drawn = np.random.default_rng(1).standard_normal((trials, n + 1 + FRESH, 2))
    drawn[:, n:, 0] += effect
    fail, made = 0, trials
    for scores in drawn.tolist():
        runs = [dict(zip((FD, BITS), each, strict=True)) for each in scores]
        outcomes = {each.outcome for each in verdicts(runs[n], runs[:n])}
        if "worse" not in outcomes and "not yet" in outcomes:
            made += FRESH
            outcomes = {each.outcome for each in verdicts(runs[n], runs[:n], fresh=runs[n + 1 :])}
        fail += "worse" in outcomes
    return fail / trials, made / trials


def test_an_honest_run_fails_as_rarely_as_is_said():
    rate, made = failures(6, 700)
    assert rate == pytest.approx(0.0225, abs=0.012)  # two standard errors of the simulation
    assert made == pytest.approx(1 + FRESH * (1 - 0.85**2), abs=0.14)


@pytest.mark.long
@pytest.mark.parametrize(("regression", "share", "runs"), TABLE)
def test_the_table_of_the_gate(regression, share, runs):
    """docs/ci.md shows it: a distance that spreads by 19%, a baseline of 12 runs, and bits per dimension."""
    rate, made = failures(12, 4000, regression / 0.19)
    assert rate == pytest.approx(share, abs=0.025)
    assert made == pytest.approx(runs, abs=0.1)
