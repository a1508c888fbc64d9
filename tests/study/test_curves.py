"""A study's verdict at each budget: the band, how often it is wrong, and what it says in words."""

import math

import numpy as np
import pytest
from scipy.special import stdtrit

from ddpm.verdicts import curves
from ddpm.verdicts.curves import simulate_critical
from ddpm.verdicts.statistics import Array, t_test

SEEDS = 8


def correlation(rho: float) -> Array:
    return rho ** np.abs(np.subtract.outer(range(4), range(4)))


@pytest.mark.parametrize(("rho", "seeds"), [(0.5, 8), (0.9, 8), (0.9, 16)])
def test_a_band_is_wrong_anywhere_as_rarely_as_it_says(rho, seeds, monkeypatch):
    monkeypatch.setattr(curves, "DRAWS", 2**10)
    curves._draw_moments.cache_clear()
    trials, alpha = 400, 0.05
    root = np.linalg.cholesky(correlation(rho)) * [3.0, 2.0, 1.0, 1.0]  # early scores vary more
    drawn = np.random.default_rng(2).standard_normal((trials, seeds, 4)) @ root.T
    t = np.abs(drawn.mean(1)) / drawn.std(1, ddof=1) * math.sqrt(seeds)
    wrong = np.mean([each.max() > simulate_critical(gaps, alpha) for each, gaps in zip(t, drawn, strict=True)])
    curves._draw_moments.cache_clear()
    assert 0.015 < wrong <= alpha + 3 * math.sqrt(0.0475 / trials)
    alone = t_test(drawn.swapaxes(1, 2), 0.0, 1 - alpha).p  # each budget by itself would be wrong more often
    assert (alone < alpha).any(1).mean() > wrong


def test_a_band_of_budgets_that_are_alike_is_narrower_than_bonferronis_and_wider_than_one_interval():
    alike = np.random.default_rng(0).standard_normal((SEEDS, 1)) + np.zeros(4)
    single, bonferroni = (-float(stdtrit(SEEDS - 1, level / 2)) for level in (0.05, 0.05 / 4))
    assert single < simulate_critical(alike, 0.05) < bonferroni
    apart = np.kron(np.eye(4), [[1.0], [-1.0]])  # without correlation the largest of four independent |t|
    assert simulate_critical(apart, 0.05) == pytest.approx(-stdtrit(SEEDS - 1, (1 - 0.95**0.25) / 2), rel=0.03)


def test_a_band_is_the_same_where_products_are_rounded_otherwise():
    gaps = [np.random.default_rng(seed).standard_normal((SEEDS, 3)) for seed in range(8)]
    assert [simulate_critical(one, 0.05) for one in gaps] == [simulate_critical(one / 3, 0.05) for one in gaps]
