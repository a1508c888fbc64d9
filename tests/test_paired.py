"""Paired statistics against scipy and closed forms, and their error rates by simulation."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from ddpm.verdicts import statistics
from ddpm.verdicts.statistics import Array

ALPHA = 0.05
TRIALS = 4000
SLACK = 3 * (ALPHA * (1 - ALPHA) / TRIALS) ** 0.5  # three standard errors of a simulated rate of 5%

# whole 1024ths, because their sums are exact: scipy ignores ties that rounding breaks
samples = st.integers(2, 10).flatmap(
    lambda n: arrays(np.float64, n, elements=st.integers(-(2**13), 2**13).map(lambda value: value / 2**10))
).filter(lambda values: values.std() > 1e-3)  # fmt: skip


# --- statistics, against independent ones


@given(samples, st.sampled_from([0.8, 0.95]))
def test_the_interval_and_p_are_those_of_the_paired_t_test(differences, confidence):
    before = np.linspace(1, 2, len(differences))
    expected = stats.ttest_rel(before + differences, before)
    found = statistics.t_test(differences, 0.1, confidence)
    np.testing.assert_allclose(found.p, expected.pvalue, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose((found.low, found.high), expected.confidence_interval(confidence), rtol=1e-6, atol=1e-9)


@given(samples, st.floats(0.01, 5))
def test_equivalence_is_the_worse_of_two_one_sided_tests(differences, margin):
    above = stats.ttest_1samp(differences, -margin, alternative="greater").pvalue
    below = stats.ttest_1samp(differences, margin, alternative="less").pvalue
    np.testing.assert_allclose(statistics.t_test(differences, margin, 0.9).equivalence_p, max(above, below), rtol=1e-6)


@given(samples)
def test_the_sign_flip_test_is_scipys_exact_one(differences):
    expected = stats.permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=2**10)
    np.testing.assert_allclose(statistics.sign_flip_p(differences), expected.pvalue)


@pytest.mark.parametrize("n", range(2, 13))
def test_the_sign_flip_tests_smallest_p_is_of_two_in_all_patterns(n):
    assert statistics.sign_flip_p(np.arange(1.0, n + 1)) == 2 / 2**n


def test_many_seeds_are_flipped_at_random_and_the_same_each_time():
    differences = np.random.default_rng(0).normal(0.4, 1, 24)
    normal = statistics.t_test(differences, 0, 0.95).p
    assert statistics.sign_flip_p(differences) == statistics.sign_flip_p(differences) == pytest.approx(normal, abs=0.01)


@pytest.mark.parametrize(("constant", "p", "equivalence_p"), [(0.0, 1, 0), (0.5, 0, 0), (-2.0, 0, 1)])
def test_differences_without_spread_are_certain(constant, p, equivalence_p):
    found = statistics.t_test(np.full(6, constant), 1, 0.95)
    assert (found.p, found.equivalence_p, found.low, found.high) == (p, equivalence_p, constant, constant)


@pytest.mark.parametrize(("alpha", "seeds"), [(0.05, 6), (0.1, 5), (0.0625, 5), (0.2, 4), (0.01, 8)])
def test_fewer_seeds_than_the_fewest_can_reject_nothing(alpha, seeds):
    assert statistics.fewest_seeds(alpha) == seeds
    assert 2 / 2**seeds <= alpha < 2 / 2 ** (seeds - 1)


# --- error rates, by simulation of the verdict's own rule


def draw(kind: str, shape: tuple[int, ...], seed: int = 1) -> Array:
    generator = np.random.default_rng(seed)
    return {"normal": generator.standard_normal, "heavy tails": lambda size: generator.standard_t(3, size)}[kind](shape)


def different(differences: Array, margin: Array | float = 0.0) -> Any:
    """Which of (trials, pairs, n) are called better or worse, if KID agrees with all."""
    found = statistics.t_test(differences, margin, 1 - ALPHA)
    flip_p = statistics.sign_flip_p(differences)
    return statistics.is_different(found.mean, found.p * differences.shape[-2], flip_p, margin, ALPHA)


@pytest.mark.parametrize("pairs", [1, 3, 8])
@pytest.mark.parametrize("n", [6, 9])
@pytest.mark.parametrize("kind", ["normal", "heavy tails"])
def test_where_nothing_differs_any_false_verdict_is_as_rare_as_one_in_twenty(kind, n, pairs):
    baseline, variants = draw(kind, (TRIALS, 1, n)), draw(kind, (TRIALS, pairs, n), seed=2)
    # without a threshold, which would make it rarer still
    assert different(variants - baseline).any(-1).mean() <= ALPHA + SLACK


def rejected(differences: Array) -> float:
    """The share of (trials, n) that the sign-flip test rejects."""
    return float(np.mean([statistics.sign_flip_p(part) <= ALPHA for part in np.split(differences, 40)]))


@pytest.mark.parametrize(("n", "rate"), [(6, 0.066), (12, 0.094)])
def test_the_sign_flip_test_is_exact_for_symmetric_differences_and_no_others(n, rate):
    """Exponential scores of two variants that do not differ; and of one that differs in shape but not in its mean."""
    before, after = np.random.default_rng(1).exponential(size=(2, TRIALS, n))
    assert rejected(after - before) <= ALPHA + SLACK
    assert rejected(after - 1) == pytest.approx(rate, abs=0.015)


@pytest.mark.parametrize("confidence", [0.8, 0.95])
@pytest.mark.parametrize("n", [2, 6])
def test_the_interval_covers_as_often_as_it_says(n, confidence):
    found = statistics.t_test(0.3 + draw("normal", (TRIALS, n)), 0.1, confidence)
    covered = np.mean((found.low < 0.3) & (found.high > 0.3))
    assert covered == pytest.approx(confidence, abs=3 * (confidence * (1 - confidence) / TRIALS) ** 0.5)


@pytest.mark.parametrize("side", [-1, 1])
@pytest.mark.parametrize("n", [6, 12])
def test_what_differs_by_the_threshold_is_rarely_called_equivalent(n, side):
    baseline = 1 + 0.01 * draw("normal", (TRIALS, n))
    variants = 1 + side * 0.013 + 0.01 * draw("normal", (TRIALS, n), seed=2)
    differences, margin = variants - baseline, 0.013 * np.abs(baseline.mean(-1))
    found = statistics.t_test(differences, margin, 1 - ALPHA)
    parts = zip(np.split(differences, 40), np.split(margin, 40), strict=True)
    flip_p = np.concatenate([statistics.shifted_flip_p(*part) for part in parts])
    rate = statistics.is_equivalent(found.equivalence_p, flip_p, ALPHA).mean()
    assert 0 < rate <= ALPHA + SLACK


def test_normal_samples_are_called_skewed_as_often_as_is_said():
    for n in (3, 8, 20):
        shares = np.array([statistics.skewness_p(each)[1] for each in 5 - 3 * draw("normal", (2000, n))])
        for level in (0.01, 0.1):
            assert np.mean(shares < level) == pytest.approx(level, abs=3 * (level / 2000) ** 0.5 + 0.002)
    assert statistics.skewness_p(np.array([1.0, 1.0, 1.0, 9.0])) == (pytest.approx(1.1547), pytest.approx(0, abs=0.01))
    assert statistics.skewness_p(np.zeros(8)) == (0, 1)
    assert statistics.skewness_p(np.array([1.0, 5.0]))[1] == 1


@pytest.mark.parametrize(
    ("mean", "sd", "margin", "family"),
    [
        (1, 1, 0.1, 1),
        (0.5, 1, 0.1, 1),
        (-0.4, 1, 0.1, 4),
        (0.3, 0.3, 0.2, 1),
        (0.02, 0.3, 0.15, 1),
        (-0.1, 0.7, 0.3, 1),
        (-0.1, 0.7, 0.3, 5),
    ],
)
def test_the_seeds_needed_give_the_power_that_was_asked(mean, sd, margin, family):
    n = statistics.seeds_needed(mean, sd, margin, 1 - ALPHA, 0.8, family)
    assert n
    assert n > 6
    fresh = mean + sd * draw("normal", (1500, n))
    found = statistics.t_test(fresh, margin, 1 - ALPHA)
    if abs(mean) < margin:
        settled = statistics.is_equivalent(found.equivalence_p * family, found.equivalence_p, ALPHA)
    else:
        flip_p = statistics.sign_flip_p(fresh) if n <= statistics.EXACT_UP_TO else found.p
        settled = statistics.is_different(found.mean, found.p * family, flip_p, margin, ALPHA)
    assert settled.mean() == pytest.approx(0.8, abs=0.1)


@pytest.mark.parametrize(("mean", "n"), [(0.5, 20), (0.5, 33), (1, 15)])
def test_power_is_that_of_the_noncentral_t(mean, n):
    critical = stats.t.ppf(1 - ALPHA / 2, n - 1)
    exact = stats.nct.sf(critical, n - 1, mean * n**0.5)
    assert statistics.settling_power(n, mean, 1, 0, 1 - ALPHA) == pytest.approx(exact, abs=0.05)


@pytest.mark.parametrize(("mean", "sd", "margin"), [(1, 1, 0.1), (0.5, 1, 0.1), (0.02, 0.3, 0.15), (0.1, 0.1, 1)])
def test_the_seeds_needed_are_the_fewest_that_suffice(mean, sd, margin):
    n = statistics.seeds_needed(mean, sd, margin, 1 - ALPHA, 0.8)
    assert n
    powers = (
        [statistics.settling_power(count, mean, sd, margin, 1 - ALPHA) for count in (n - 1, n)] if n > 2 else [0, 1]
    )
    assert powers[0] < 0.8 <= powers[1]


def test_no_number_is_given_where_no_sane_number_suffices():
    assert statistics.seeds_needed(0.1, 1, 0.1001, 1 - ALPHA, 0.8) is None
    assert statistics.seeds_needed(3, 1, 0.1, 1 - ALPHA, 0.8) == 6
