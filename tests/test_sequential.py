"""Tests at several looks: bounds, error rates and power by simulation; flips by brute force."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from ddpm.verdicts.sequential import SPENDING, Design
from ddpm.verdicts.statistics import Array

ALPHA = 0.05
LOOKS = (8, 12, 16, 20)


def t_at(looks: tuple[int, ...], differences: Array) -> Array:
    """t at each look of (..., n): (..., looks)."""
    found = [differences[..., :n].mean(-1) / (differences[..., :n].std(-1, ddof=1) / math.sqrt(n)) for n in looks]
    return np.stack(found, -1)


def draw(trials: int, looks: tuple[int, ...] = LOOKS, seed: int = 11) -> Array:
    return np.random.default_rng(seed).standard_normal((trials, looks[-1]))


# --- spending


def test_what_may_be_spent_is_lan_and_demets_closed_form():
    expected = ALPHA * np.log(1 + (math.e - 1) * np.array(LOOKS) / 20)
    np.testing.assert_allclose(Design(LOOKS, "pocock").spent(ALPHA), expected, rtol=1e-9)


@pytest.mark.parametrize("n", [2, 6, 20])
def test_one_look_is_the_t_test(n):
    design = Design((n,), "pocock")
    for level in (0.05, 0.0037):
        np.testing.assert_allclose(design.bounds(level), stats.t.isf(level / 2, n - 1))
        np.testing.assert_allclose(design.p(np.array([level])), level)


# --- the t test


@pytest.mark.parametrize("looks", [LOOKS, (6, 10), (6, 7, 8, 9, 10, 11, 12)])
def test_the_bounds_spend_the_error_rate_look_by_look(looks):
    trials = 200_000
    t = np.abs(t_at(looks, draw(trials, looks)))
    design = Design(looks, "pocock")
    for level in (ALPHA, ALPHA / 15):
        crossed = np.logical_or.accumulate(t >= design.bounds(level), axis=1).mean(0)
        slack = 3 * math.sqrt(level * (1 - level) / trials)
        np.testing.assert_allclose(crossed, design.spent(level), atol=slack + 0.02 * level)
    assert abs(np.any(t >= design.bounds(ALPHA), axis=1).mean() - ALPHA) < 0.001 + 3 * math.sqrt(0.0475 / trials)


@pytest.mark.parametrize("spending", list(SPENDING))
def test_the_p_of_a_look_says_at_which_levels_it_rejects(spending):
    design = Design(LOOKS, spending)
    t = np.abs(t_at(LOOKS, draw(2000) + 0.5))
    p = design.p(2 * stats.t.sf(t, np.array(LOOKS) - 1))
    for level in (0.05, 0.01, 0.001):
        np.testing.assert_array_equal(p <= level * (1 + 1e-9), t >= design.bounds(level))


@pytest.mark.parametrize("spending", list(SPENDING))
def test_the_bounds_fall_as_the_error_rate_grows(spending):
    bounds = np.stack([Design(LOOKS, spending).bounds(level) for level in np.geomspace(1e-5, 0.4, 40)])
    assert (np.diff(bounds, axis=0) <= 0).all()
    assert (np.diff(bounds[:, -1]) < 0).all()


def test_the_e_value_holds_at_any_number_of_looks():
    looks = tuple(range(4, 60))
    t = np.abs(t_at(looks, draw(10_000, looks)))
    assert np.any(t >= Design(looks, "evalue").bounds(ALPHA), axis=1).mean() < ALPHA
    longer = Design((*looks, 80), "evalue")
    np.testing.assert_array_equal(Design(looks, "evalue").bounds(ALPHA), longer.bounds(ALPHA)[:-1])


def test_the_e_value_is_the_bayes_factor_of_a_normal_effect():
    """Integrated over effects: the noncentral t's density over the central one's."""
    n, level = 9, 0.03
    t = float(Design((n,), "evalue").bounds(level)[0])
    effects, step = np.linspace(-8, 8, 4001, retstep=True)
    likelihood = stats.nct.pdf(t, n - 1, effects * math.sqrt(n)) * stats.norm.pdf(effects)
    assert likelihood.sum() * step / stats.t.pdf(t, n - 1) == pytest.approx(1 / level, rel=1e-3)


@pytest.mark.parametrize(("effect", "expected", "seeds"), [(1.0, 0.96, 11.5), (1.5, 1.0, 8.7)])
def test_both_tests_have_the_power_that_was_planned_with(effect, expected, seeds):
    design, trials = Design(LOOKS, "pocock"), 400
    differences = draw(trials) + effect
    t = np.abs(t_at(LOOKS, differences)) >= design.bounds(ALPHA)
    flips = np.array([np.isin(LOOKS, design.sign_flips(each, ALPHA)) for each in differences])
    both = np.where((t & flips).any(1), np.array(LOOKS)[(t & flips).argmax(1)], 99)
    assert (both <= 20).mean() == pytest.approx(expected, abs=0.025)
    assert np.minimum(both, 20).mean() == pytest.approx(seeds, abs=0.5)
    assert design.power(ALPHA, effect)[-1] == pytest.approx(expected, abs=0.02)


# --- the sign-flip test


def brute_force(design: Design, differences: Array, level: float) -> int | None:
    """From a list of all sign patterns at the last look, the observed one first."""
    patterns = list(itertools.product((1, -1), repeat=len(differences)))
    sums = {pattern: np.cumsum(np.array(pattern) * differences) for pattern in patterns}
    left = set(patterns)
    for place, look in enumerate(design.looks):
        may = math.floor(float(design.spent(level)[place]) * len(patterns) + 1e-9) - (len(patterns) - len(left))
        size = {pattern: round(abs(float(sums[pattern][look - 1])), 9) for pattern in left}
        for limit in sorted(set(size.values())):
            out = {pattern for pattern in left if size[pattern] >= limit}
            if len(out) <= may:
                if patterns[0] in out:
                    return look
                left -= out
                break
    return None


@pytest.mark.parametrize("ties", [False, True])
def test_sign_flips_are_those_of_brute_force(ties):
    design = Design((5, 7, 8), "pocock")
    differences = draw(40, design.looks) + np.linspace(0, 2, 40)[:, None]
    if ties:
        differences = np.round(differences)
    found = [next(iter(design.sign_flips(each, 0.2)), None) for each in differences]
    assert found == [brute_force(design, each, 0.2) for each in differences]
    assert {5, 7, 8, None} <= {*found, 7, 8}


def test_beyond_twenty_seeds_patterns_are_drawn_and_say_the_same():
    exact, drawn = Design((8, 16), "pocock"), Design((8, 16, 32), "pocock")
    differences = draw(30) + 0.6
    level = 0.05 / float(drawn.spent(1.0)[1])  # at which the longer design has spent 5% by 16 seeds
    agree = [exact.sign_flips(each[:16], 0.05) == drawn.sign_flips(each[:16], level) for each in differences]
    assert np.mean(agree) > 0.9
    assert drawn.sign_flips(np.ones(8), 0.1) == [8]


@pytest.mark.parametrize(
    ("looks", "spending", "fewest"),
    [((6,), "pocock", 6), (LOOKS, "pocock", 7), (LOOKS, "evalue", 7), ((4, 5), "pocock", None)],
)
def test_the_fewest_seeds_with_which_signs_can_decide(looks, spending, fewest):
    assert Design(looks, spending).fewest(ALPHA) == fewest
    for n in range(4, 12):
        first = Design((n, max(looks[-1], n + 1)), spending)
        clear = first.sign_flips(np.arange(1.0, n + 1), ALPHA) == [n]
        if looks == LOOKS:
            assert clear == (n >= (fewest or 0))


# --- estimates and futility


@pytest.mark.parametrize("effect", [0.3, 0.8, 1.2])
def test_half_of_the_estimates_are_too_high_where_most_means_are(effect):
    design, trials = Design(LOOKS, "pocock"), 4000
    differences = draw(trials) + effect
    t = t_at(LOOKS, differences)
    crossed = np.abs(t) >= design.bounds(ALPHA)
    places = np.where(crossed.any(1), crossed.argmax(1), len(LOOKS) - 1)
    estimates, means = np.zeros(trials), np.zeros(trials)
    for trial, place in enumerate(places):
        seen = differences[trial, : LOOKS[place]]
        estimates[trial] = design.median(ALPHA, int(place), float(t[trial, place])) * seen.std(ddof=1)
        means[trial] = seen.mean()
    assert (estimates > effect).mean() == pytest.approx(0.5, abs=0.04)
    assert estimates.mean() < means.mean()
    if effect == 0.8:
        assert (means > effect).mean() > 0.53


def test_an_estimate_has_the_sign_of_its_t_and_is_the_mean_at_the_first_look():
    design = Design(LOOKS, "pocock")
    assert design.median(ALPHA, 0, 3.0) == pytest.approx(3 / math.sqrt(8))
    for place in range(4):
        assert design.median(ALPHA, place, -2.0) == -design.median(ALPHA, place, 2.0)
        assert design.median(ALPHA, place, 0.0) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("mean", "effect"), [(0.2, 0.2), (0.6, 0.6), (0.6, 0.0)])
def test_the_chance_of_a_verdict_at_the_last_look_is_that_of_studies_that_go_on(mean, effect):
    design, trials, margin = Design((8, 16), "pocock"), 3000, 0.1
    seen = draw(1, (8,))[0]
    seen = mean + (seen - seen.mean()) / seen.std(ddof=1)
    rest = effect + draw(trials, (8,), seed=3)
    whole = np.concatenate([np.tile(seen, (trials, 1)), rest], axis=1)
    crossed = (np.abs(t_at((16,), whole)[:, 0]) >= design.bounds(ALPHA)[-1]) & (np.abs(whole.mean(1)) > margin)
    assert design.chance(ALPHA, seen, effect, 1, margin) == pytest.approx(crossed.mean(), abs=0.03)


def test_a_wide_margin_makes_equivalence_the_likely_verdict():
    seen = draw(1, (8,))[0] * 0.01
    assert Design(LOOKS, "pocock").chance(ALPHA, seen, 0.0, 0.01, 1.0) == 1.0
