"""What decides a ladder: e-values that are valid for symmetric gains, shares of the error, and streams of ideas."""

from itertools import product

import numpy as np
import pytest

from ddpm.ladder import evidence
from docs import make_ladder

SIGNS = np.array(list(product((1.0, -1.0), repeat=12)))
SIZES = {
    "equal": np.ones(12), "normal": np.abs(np.random.default_rng(0).standard_normal(12)),
    "heavy": np.abs(np.random.default_rng(1).standard_cauchy(12)), "rising": 3.0 ** np.arange(12),
    "falling": 3.0 ** -np.arange(12), "ties": np.array([0, 1, 0, 0, 2, 2, 1, 0, 1, 1, 0, 3.0]),
    "nothing": np.zeros(12),
}  # fmt: skip


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("shift", [0, 0.3, 5])
def test_the_e_value_is_valid_given_the_sizes_of_symmetric_gains(sizes, shift):
    """All patterns of signs are equally likely if nothing differs: exactly, then, at every stop."""
    log = evidence.log_e(SIGNS * sizes - shift * sizes[0])
    assert np.exp(log).mean(0).max() <= 1 + 1e-12
    for level in (0.2, 0.05, 0.01):
        assert (log.max(1) >= -np.log(level)).mean() <= level


def test_each_factor_is_a_fair_bet_given_the_past():
    past = np.array([0.3, -1.0, 2.0])
    for size in (0.01, 1.0, 50.0):
        both = [np.exp(evidence.log_e(np.append(past, sign * size))[-1] - evidence.log_e(past)[-1]) for sign in (1, -1)]
        assert sum(both) <= 2 + 1e-12
        assert both[0] <= 1 + evidence.CAP + 1e-12


def test_units_do_not_matter():
    gains = np.random.default_rng(0).standard_normal((5, 9))
    np.testing.assert_allclose(evidence.log_e(gains), evidence.log_e(1e-6 * gains))


def test_the_shares_sum_to_one_and_later_ideas_get_more_than_with_squares():
    shares = np.array([evidence.share(attempt) for attempt in range(1, 10**5)])
    left = 2 / (10**5 + evidence.SHIFT) ** 0.5 / (1 / shares[0]) * (1 + evidence.SHIFT) ** evidence.POWER
    assert shares.sum() + left == pytest.approx(1, abs=1e-4)
    assert shares[99] > 15 * 6 / np.pi**2 / 100**2
    # e-LOND: the threshold falls with each rung
    assert evidence.threshold(7, 3, 0.05) == pytest.approx(evidence.threshold(7, 0, 0.05) / 4)


@pytest.mark.parametrize("needed", [20.0, 500.0, 5000.0])
def test_seeds_needed_are_those_after_which_half_have_decided(needed):
    counts = [evidence.seeds_needed(effect, needed, 100) for effect in (1, 2, 3, 50)]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == evidence.fewest(needed)
    gains = np.random.default_rng(5).standard_normal((4000, counts[0])) + 1
    decided = (evidence.log_e(gains).max(1) >= np.log(needed)).mean()
    assert decided == pytest.approx(0.5, abs=0.06)
    assert evidence.seeds_needed(0.1, needed, 32) is None


def test_a_stop_is_early_only_if_the_rest_would_not_be_enough():
    gains = np.random.default_rng(0).standard_normal((2000, 32))
    lost = {}
    for effect in (-1, 0, 1, 2):
        accepts, hopeless = evidence.looks(gains + effect, 300.0, 6, 32)
        lost[effect] = (hopeless.any(1) & (hopeless.argmax(1) < np.where(accepts.any(1), accepts.argmax(1), 32))).mean()
        assert not accepts[:, :5].any()
        assert not hopeless[:, : evidence.FIRST - 1].any()
    assert min(lost[-1], lost[0]) > 0.98
    assert lost[2] < 0.01
    assert evidence.looks(np.zeros(5), 300.0, 6, 32).hopeless[-1]


def test_the_interval_holds_the_effect_and_agrees_with_the_e_value():
    random = np.random.default_rng(0)
    held = []
    for _ in range(200):
        gains = 3 * random.standard_normal(14) + 4
        low, high = evidence.interval(gains, 0.05)
        assert low < gains.mean() < high
        held.append(low <= 4 <= high)
        assert (low > 0) <= (evidence.log_e(gains)[-1] >= np.log(40) - 0.05)
    assert np.mean(held) >= 0.95
    assert evidence.interval(np.ones(3), 0.05) == (-np.inf, np.inf)


@pytest.mark.slow
@pytest.mark.parametrize("case", make_ladder.CASES, ids=lambda case: case.name)
def test_few_rungs_of_a_stream_are_false(case):
    """docs/ladder.md has the table of 10,000 streams."""
    done = make_ladder.simulate(case, 500)
    skewed = "losses" in case.gains
    assert done.ladder.false <= 0.05 + 3 * done.ladder.error + 0.1 * (skewed and not case.real)
    assert done.keep.false > 0.5
    assert done.seeds < 7.5
    if case.real:
        assert done.ladder.real > 0.7
