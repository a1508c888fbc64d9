"""Tests at several looks: bounds, error rates and power by simulation; flips by brute force."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from ddpm.verdicts import sequential
from ddpm.verdicts.sequential import Design
from ddpm.verdicts.statistics import Array
from ddpm.verdicts.verdict import PRIMARY

ALPHA = 0.05
LOOKS = (8, 12, 16, 20)


def t_at(looks: tuple[int, ...], differences: Array) -> Array:
    """t at each look of (..., n): (..., looks)."""
    found = [differences[..., :n].mean(-1) / (differences[..., :n].std(-1, ddof=1) / math.sqrt(n)) for n in looks]
    return np.stack(found, -1)


def draw(trials: int, looks: tuple[int, ...] = LOOKS, seed: int = 11) -> Array:
    return np.random.default_rng(seed).standard_normal((trials, looks[-1]))


@pytest.mark.parametrize("n", [2, 6, 20])
def test_one_look_is_the_t_test(n):
    design = Design((n,))
    for level in (0.05, 0.0037):
        np.testing.assert_allclose(design.bounds(level), stats.t.isf(level / 2, n - 1))
        np.testing.assert_allclose(design.p(0, np.array([level])), level)


@pytest.mark.parametrize("looks", [LOOKS, (6, 7, 8, 9, 10, 11, 12)])
def test_the_bounds_spend_the_error_rate_look_by_look(looks):
    trials = 30_000
    t = np.abs(t_at(looks, draw(trials, looks)))
    design = Design(looks)
    for level in (ALPHA, ALPHA / 15):
        crossed = np.logical_or.accumulate(t >= design.bounds(level), axis=1).mean(0)
        slack = 3 * math.sqrt(level * (1 - level) / trials)
        np.testing.assert_allclose(crossed, design.budget(level), atol=slack + 0.02 * level)
    assert abs(np.any(t >= design.bounds(ALPHA), axis=1).mean() - ALPHA) < 0.001 + 3 * math.sqrt(0.0475 / trials)


def test_the_power_is_that_of_studies_with_an_effect():
    design, differences = Design(LOOKS), draw(4000) + 1.0
    crossed = np.logical_or.accumulate(np.abs(t_at(LOOKS, differences)) >= design.bounds(ALPHA), axis=1).mean(0)
    np.testing.assert_allclose(design.power(ALPHA, 1.0), crossed, atol=0.03)
    assert crossed[-1] > 0.95


def brute_force(design: Design, differences: Array, level: float) -> int | None:
    """From a list of all sign patterns at the last look, the observed one first."""
    patterns = list(itertools.product((1, -1), repeat=len(differences)))
    sums = {pattern: np.cumsum(np.array(pattern) * differences) for pattern in patterns}
    left = set(patterns)
    for place, look in enumerate(design.looks):
        may = math.floor(float(design.sign_budget(level)[place]) * len(patterns) + 1e-9) - (len(patterns) - len(left))
        size = {pattern: round(abs(float(sums[pattern][look - 1])), 9) for pattern in left}
        for limit in sorted(set(size.values())):
            out = {pattern for pattern in left if size[pattern] >= limit}
            if len(out) <= may:
                if patterns[0] in out:
                    return look
                left -= out
                break
    return None


@pytest.mark.parametrize(
    ("looks", "level", "ties"), [((5, 7, 8), 0.2, False), ((5, 7, 8), 0.2, True), ((6, 8), 0.05, False)]
)
def test_sign_flips_are_those_of_brute_force(looks, level, ties):
    design = Design(looks)
    differences = draw(30, looks) + np.linspace(0, 2, 30)[:, None]
    if ties:
        differences = np.round(differences)
    found = [next(iter(design.sign_flips(each, level)), None) for each in differences]
    assert found == [brute_force(design, each, level) for each in differences]
    assert len({*found}) > 2


def test_a_first_look_of_six_spends_what_six_equal_signs_need_and_the_rest_later():
    design = Design((6, 10, 15, 20))
    spent = design.sign_budget(ALPHA)
    assert (spent[0], spent[-1]) == pytest.approx((2 / 64, ALPHA))
    assert (np.diff(spent) > 0).all()
    assert design.sign_flips(np.arange(1.0, 7), ALPHA) == [6]
    assert design.sign_flips(np.array([1, 2, 3, 4, 5, -0.1]), ALPHA) == []
    # where one pattern fits into the look's part, nothing changes, nor where the error rate has no pattern
    for other, level in ((Design((6, 8)), ALPHA), (Design(LOOKS), ALPHA), (design, 0.03)):
        np.testing.assert_array_equal(other.sign_budget(level), other.budget(level))


def test_studies_are_false_as_rarely_as_promised():
    """Of seven arms in six metrics, with normal differences of mean 0: docs/verdicts.md has others."""
    looks, trials, arms, metrics = (6, 10, 15, 20), 300, 7, 6
    gaps = np.random.default_rng(0).standard_normal((trials * arms, metrics, looks[-1]))
    design, rates = Design(looks), ALPHA * np.array([PRIMARY, (1 - PRIMARY) / (metrics - 1)]) / arms
    bounds = np.array([design.bounds(rate) for rate in rates])[[0] + [1] * (metrics - 1)]
    beyond, false = np.abs(t_at(looks, gaps)) >= bounds, np.zeros(trials * arms, bool)
    for at in np.flatnonzero(beyond.any((1, 2))):
        until = looks[-1]  # the others are read up to the look at which the primary metric decides
        for row, passed in zip(gaps[at], beyond[at], strict=True):
            for look in np.array(looks)[passed]:
                if look <= until and look in design.sign_flips(row[:look], ALPHA):
                    false[at], until = True, look if row is gaps[at][0] else until
                    break
    assert false.reshape(trials, arms).any(1).mean() <= ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / trials)


@pytest.mark.parametrize(("mean", "effect"), [(0.2, 0.2), (0.6, 0.6), (0.6, 0.0)])
def test_the_chance_of_a_verdict_at_the_last_look_is_that_of_studies_that_go_on(mean, effect):
    design, trials, margin = Design((8, 16)), 3000, 0.1
    seen = draw(1, (8,))[0]
    seen = mean + (seen - seen.mean()) / seen.std(ddof=1)
    rest = effect + draw(trials, (8,), seed=3)
    whole = np.concatenate([np.tile(seen, (trials, 1)), rest], axis=1)
    crossed = (np.abs(t_at((16,), whole)[:, 0]) >= design.bounds(ALPHA)[-1]) & (np.abs(whole.mean(1)) > margin)
    assert design.chance(ALPHA, seen, effect, 1, margin) == pytest.approx(crossed.mean(), abs=0.03)


def test_a_seed_beyond_the_signs_has_that_of_an_earlier_one(monkeypatch):
    """The fifth difference flips with the second: so few patterns are as extreme as the observed one."""
    monkeypatch.setattr(sequential, "FREE", 4)
    differences = np.array([9.0, 4.0, 1.0, 1.0, -9.0, 2.0, 1.0, 1.0])
    signs = np.array(list(itertools.product((1, -1), repeat=3)))
    patterns = np.column_stack([np.ones(8), signs, signs, signs[:, 0]])
    extreme = (np.abs(patterns @ differences) >= abs(differences.sum()) - 1e-9).mean()
    design = Design((8,))
    assert design.sign_flips(differences, extreme + 1e-6) == [8]
    assert design.sign_flips(differences, extreme - 1e-6) == []


def test_each_of_twenty_seeds_has_a_sign_of_its_own():
    differences = draw(1)[0] + 0.5
    sums = differences[:1]
    for gap in differences[1:]:
        sums = np.concatenate([sums + gap, sums - gap])
    extreme = (np.abs(sums) >= abs(differences.sum()) - 1e-9).mean()
    assert 1e-4 < extreme < 0.5
    assert Design((20,)).sign_flips(differences, extreme + 1e-7) == [20]
    assert Design((20,)).sign_flips(differences, extreme - 1e-7) == []
