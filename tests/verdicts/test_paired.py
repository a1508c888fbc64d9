"""Paired statistics against scipy and closed forms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from ddpm.verdicts import statistics
from ddpm.verdicts.sequential import Design

# whole 1024ths, because their sums are exact: scipy ignores ties that rounding breaks
samples = st.integers(2, 10).flatmap(
    lambda n: arrays(np.float64, n, elements=st.integers(-(2**13), 2**13).map(lambda value: value / 2**10))
).filter(lambda values: values.std() > 1e-3)  # fmt: skip


@given(samples, st.sampled_from([0.8, 0.95]), st.floats(0.01, 5))
def test_interval_p_and_equivalence_are_those_of_scipys_t_tests(differences, confidence, margin):
    before = np.linspace(1, 2, len(differences))
    expected = stats.ttest_rel(before + differences, before)
    found = statistics.t_test(differences, margin, confidence)
    np.testing.assert_allclose(found.p, expected.pvalue, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose((found.low, found.high), expected.confidence_interval(confidence), rtol=1e-6, atol=1e-9)
    above = stats.ttest_1samp(differences, -margin, alternative="greater").pvalue
    below = stats.ttest_1samp(differences, margin, alternative="less").pvalue
    np.testing.assert_allclose(found.equivalence_p, max(above, below), rtol=1e-6)


@given(samples, st.sampled_from([0.05, 0.2, 0.5]))
def test_the_sign_flip_test_is_scipys_exact_one(differences, level):
    expected = stats.permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=2**10)
    found = Design((len(differences),)).sign_flips(differences, level)
    assert (found != []) == (expected.pvalue <= level + 1e-9)


@pytest.mark.parametrize(("constant", "p", "equivalence_p"), [(0.0, 1, 0), (0.5, 0, 0), (-2.0, 0, 1)])
def test_differences_without_spread_are_certain(constant, p, equivalence_p):
    found = statistics.t_test(np.full(6, constant), 1, 0.95)
    assert (found.p, found.equivalence_p, found.low, found.high) == (p, equivalence_p, constant, constant)


@pytest.mark.parametrize(("alpha", "seeds"), [(0.05, 6), (0.1, 5), (0.0625, 5), (0.2, 4), (0.01, 8)])
def test_fewer_seeds_than_the_fewest_can_reject_nothing(alpha, seeds):
    assert statistics.fewest_seeds(alpha) == seeds
    assert 2 / 2**seeds <= alpha < 2 / 2 ** (seeds - 1)
