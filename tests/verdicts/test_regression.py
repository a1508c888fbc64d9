"""The gate's statistics, against scipy and by simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ddpm.params.config import Compare
from ddpm.verdicts import guards, statistics, verdict
from ddpm.verdicts.sequential import Design
from ddpm.verdicts.verdict import Pair, Verdict
from tests.scored import rescored, result

FD, PRECISION, BITS = "classifier.fd", "classifier.precision", "bits_per_dim"
RUN = result()
NO_FLOORS = Compare(floors={}, threshold=0)
Scores = dict[str, float]


def verdicts(scores: Scores, baseline, compare: Compare = NO_FLOORS, primaries: int = 0) -> list[Verdict]:
    """Of a run with these scores against others, all of which share the error rate, or the first ``primaries``."""
    before = tuple(rescored(RUN, seed, each) for seed, each in enumerate(baseline))
    rules = guards.rules(compare, [*scores], 1, Design((1,)), primaries=primaries or len(scores))
    return verdict.judge_unpaired(Pair("baseline", "run", before, (rescored(RUN, 99, scores),)), rules)


@given(st.lists(st.floats(-5, 5), min_size=5, max_size=12).filter(lambda values: np.std(values) > 0.01),
       st.floats(-9, 9), st.floats(0.5, 0.99))  # fmt: skip
def test_the_test_of_one_run_is_scipys_of_two_samples_and_its_interval_the_prediction_interval(values, value, level):
    ours = statistics.t_test_of_one(value, np.array(values), 0.5, level)
    assert ours.p == pytest.approx(stats.ttest_ind([value], values).pvalue, rel=1e-6, abs=1e-12)
    scale = np.std(values, ddof=1) * math.sqrt(1 + 1 / len(values))
    low, high = stats.t.interval(level, len(values) - 1, loc=np.mean(values), scale=scale)
    assert (value < low or value > high) == (ours.low > 0 or ours.high < 0)
    above, below = (stats.t.sf((0.5 + side * (value - np.mean(values))) / scale, len(values) - 1) for side in (1, -1))
    assert ours.equivalence_p == pytest.approx(max(above, below), rel=1e-6, abs=1e-12)


@pytest.mark.parametrize(("name", "bad"), [(FD, 1), (PRECISION, -1)])
@pytest.mark.parametrize(("others", "share"), [(0, 0.9), (2, 0.9)])
def test_only_a_change_to_the_bad_side_and_past_the_interval_is_worse(name, bad, others, share):
    values = [4.9, 5.0, 5.1, 5.0, 5.2]
    rest = {f"extractor{number}.is_mean": 7.0 for number in range(others)}
    reach = stats.t.isf(0.05 * share / 2, 4) * np.std(values, ddof=1) * math.sqrt(1.2)
    baseline = [{name: value, **rest} for value in values]
    for offset, outcome in ((-1.001, "better"), (-0.999, "inconclusive"), (0.999, "inconclusive"), (1.001, "worse")):
        first, *_ = verdicts({name: np.mean(values) + bad * offset * reach, **rest}, baseline, primaries=1)
        assert first.outcome == outcome
        assert abs(first.low * bad) < 1 or outcome != "inconclusive"
        assert (first.low > 0 or first.high < 0) == (outcome != "inconclusive")
        assert len(first.differences) == 5
        assert first.headline.startswith(f"run is {outcome}: ")


def test_a_change_below_the_floor_is_never_worse_and_one_within_it_may_be_equivalent():
    floors = Compare(floors={"fd": 0.5}, threshold=0)
    baseline = [{FD: 1 + 0.01 * seed} for seed in range(5)]
    outcomes = [verdicts({FD: 1.02 + gap}, baseline, floors)[0].outcome for gap in (0.0, 0.48, 0.499, 0.501)]
    assert outcomes == ["equivalent", "inconclusive", "inconclusive", "worse"]


def honest_failures(n: int, names: list[str], correlation: float, transform=lambda runs: runs) -> float:
    """The share of runs that fail against a baseline of ``n`` seeds of their own kind.

    Scores are standard normals with that correlation, (trials, n + 1, metrics), which ``transform`` may change.
    """
    trials = 1500
    covariance = np.full((len(names), len(names)), correlation) + (1 - correlation) * np.eye(len(names))
    drawn = np.random.default_rng(1).multivariate_normal(np.zeros(len(names)), covariance, (trials, n + 1))
    rows = [[dict(zip(names, map(float, scores), strict=True)) for scores in runs] for runs in transform(drawn)]
    failures = (any(each.outcome == "worse" for each in verdicts(run, baseline)) for *baseline, run in rows)
    return sum(failures) / trials


@pytest.mark.parametrize(("n", "names", "correlation"), [(5, [FD, BITS], -0.9), (6, [FD, BITS], 0.0)])
def test_an_honest_run_fails_as_rarely_as_is_said(n, names, correlation):
    rate = honest_failures(n, names, correlation)
    assert rate <= 0.0225 + 0.008  # two standard errors of the simulation
    if correlation == 0:
        assert rate == pytest.approx(0.0225, abs=0.008)


def test_so_do_honest_runs_whose_distance_is_skewed_to_the_bad_side():
    """A log-normal that spreads by 10%."""
    assert 0.015 <= honest_failures(5, [FD, BITS], 0.0, lambda runs: np.exp(runs * [0.1, 0.002])) <= 0.045
