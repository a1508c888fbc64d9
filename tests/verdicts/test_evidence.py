"""What decides a ladder: e-values of pairs and of the order of all runs, shares of the error, and streams of ideas."""

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ddpm.verdicts import evidence
from ddpm.verdicts.evidence import PAIRS, RANKS
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


def test_a_gain_is_measured_in_the_gains_before_it_and_counts_up_to_the_cap():
    factors = np.minimum(1 + np.tanh([1, -1, 0.5, 4 / 3**0.5]), 1 + evidence.CAP)
    np.testing.assert_allclose(evidence.log_e(np.array([2.0, -2.0, 1.0, 4.0])), np.log(factors).cumsum())


ORDERS = np.array(list(permutations(range(8))), dtype=float)  # of four runs a side
SCORES = arrays(float, (2, 6), elements=st.integers(-3, 3).map(float))


def test_the_order_has_the_likelihood_of_runs_that_are_drawn_by_their_hazards():
    """The best of all is drawn, then the best of the rest, and so on: Savage 1956, by its definition."""
    for order in ORDERS[::4999]:
        for n in range(1, 5):
            best_first, ratios = np.append(order[:n], order[4 : 4 + n]).argsort()[::-1], []
            for hazard in (3, 9, 27, 81):
                hazards = np.repeat([1, hazard], n)[best_first]
                ratios.append(np.prod([hazards[i] / hazards[i:].sum() * (2 * n - i) for i in range(2 * n)]))
            assert np.exp(evidence.log_rank_e(order[:4], order[4:])[n - 1]) == pytest.approx(np.mean(ratios))


@pytest.mark.parametrize("scores", [range(8), [0, 0, 0, 1, 1, 5, 5, 5]], ids=str)
def test_ranks_are_valid_at_every_stop_if_the_runs_are_exchangeable(scores):
    """All orders are equally likely."""
    values = np.array(scores, float)[ORDERS.astype(int)]
    log = RANKS.log_e(values[:, :4], values[:, 4:])
    for level in (0.5, 0.2, 0.1, 0.05, 0.03):
        assert (log.max(1) >= -np.log(level)).mean() <= level
    assert (log.max(1) >= np.log(5)).any()


@given(SCORES, st.integers(0, 5))
def test_a_better_challenger_never_has_less_evidence_and_units_of_scores_do_not_matter(scores, seed):
    champion, challenger = scores
    log = evidence.log_rank_e(champion, challenger)
    np.testing.assert_allclose(evidence.log_rank_e(np.exp(champion), np.exp(challenger)), log)
    higher = challenger + (np.arange(6) == seed)
    assert (evidence.log_rank_e(champion, higher) >= log - 1e-12).all()
    # of equal scores the champion's counts as better
    apart = challenger + np.random.default_rng(seed).choice([-0.25, 0.25], 6)
    assert (evidence.log_rank_e(champion, apart) >= log - 1e-12).all()
    np.testing.assert_allclose(evidence.log_rank_e(champion, challenger - 0.25), log)


def test_equal_effects_take_half_of_the_seeds_by_ranks():
    assert [rule.fewest(250.0) for rule in (PAIRS, RANKS)] == [12, 7]
    assert [rule.fewest(2000.0) for rule in (PAIRS, RANKS)] == [17, 8]
    for rule in (PAIRS, RANKS):
        far = 5.0 + 3.0 ** np.arange(12)
        assert (rule.log_e(np.zeros(12), far) >= np.log(250)).argmax() + 1 == rule.fewest(250.0)
        look = rule.look(np.arange(7.0), 100 + np.arange(7.0), 250.0, 6, 7)
        assert look.accepts.any() == (rule is RANKS)
        assert look.hopeless.any() == (rule is PAIRS)  # seven pairs cannot reach it


def test_the_shares_sum_to_one_and_later_ideas_get_more_than_with_squares():
    shares = np.array([evidence.share(attempt) for attempt in range(1, 10**4)])
    left = 2 / (10**4 + evidence.SHIFT) ** 0.5 / (1 / shares[0]) * (1 + evidence.SHIFT) ** evidence.POWER
    assert shares.sum() + left == pytest.approx(1, abs=1e-4)
    assert shares[99] > 15 * 6 / np.pi**2 / 100**2
    # e-LOND: the threshold falls with each rung
    assert evidence.threshold(7, 3, 0.05) == pytest.approx(evidence.threshold(7, 0, 0.05) / 4)


@pytest.mark.parametrize("rule", [PAIRS, RANKS], ids=["pairs", "ranks"])
def test_seeds_needed_are_those_after_which_half_have_decided(rule):
    needed = 500.0
    counts = [rule.seeds_needed(effect, needed, 40) for effect in (1, 3, 50)]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == rule.fewest(needed)
    sides = make_ladder.run(np.random.default_rng(5), make_ladder.Case(""), np.ones(500), counts[0])
    decided = (rule.log_e(*sides).max(1) >= np.log(needed)).mean()
    assert decided == pytest.approx(0.5, abs=0.1)
    assert rule.seeds_needed(0.1, needed, 32) is None


@pytest.mark.parametrize("rule", [PAIRS, RANKS], ids=["pairs", "ranks"])
def test_a_stop_is_early_only_if_the_rest_would_not_be_enough(rule):
    champion, challenger = make_ladder.run(np.random.default_rng(0), make_ladder.Case(""), np.zeros(300), 32)
    lost = {}
    for effect in (-1, 0, 1, 2):
        accepts, hopeless = rule.look(champion, challenger + effect, 300.0, 6, 32)
        lost[effect] = (hopeless.any(1) & (hopeless.argmax(1) < np.where(accepts.any(1), accepts.argmax(1), 32))).mean()
        assert not accepts[:, :5].any()
        assert not hopeless[:, : evidence.FIRST - 1].any()
    assert min(lost[-1], lost[0]) > 0.98
    assert lost[2] < 0.01
    assert rule.look(np.ones(5), np.ones(5), 300.0, 6, 32).hopeless[-1]


@pytest.mark.parametrize(("rule", "seeds"), [(PAIRS, 14), (RANKS, 7)], ids=["pairs", "ranks"])
def test_the_interval_holds_the_effect_and_agrees_with_the_e_value(rule, seeds):
    random = np.random.default_rng(0)
    held = []
    for _ in range(40):
        champion, challenger = 2 * random.standard_normal((2, seeds))
        low, high = rule.interval(champion, challenger + 4, 0.05)
        assert low < (challenger + 4 - champion).mean() < high
        assert np.isfinite([low, high]).all()
        held.append(low <= 4 <= high)
        assert (low > 0) <= (rule.log_e(champion, challenger + 4)[-1] >= np.log(40) - 0.05)
    assert np.mean(held) >= 0.95
    assert rule.interval(np.zeros(3), np.ones(3), 0.05) == (-np.inf, np.inf)


@pytest.mark.long
@pytest.mark.parametrize("case", make_ladder.CASES, ids=lambda case: case.name)
def test_few_rungs_of_a_stream_are_false(case):
    """docs/ladder.md has the table of more streams."""
    for rule in (PAIRS, RANKS) if case.alike else (PAIRS,):  # ranks do not promise it for unlike sides
        done = make_ladder.simulate(case, 200, rule=rule)
        skewed = "losses" in case.noise
        assert done.ladder.false <= 0.05 + 3 * done.ladder.error + 0.1 * (skewed and not case.real)
        assert done.keep.false > 0.3
        assert done.seeds < 11
        if min(case.effects) >= 2:
            assert done.ladder.real > 0.98


@pytest.mark.parametrize("case", [case for case in make_ladder.CASES if not case.real], ids=lambda case: case.name)
def test_a_search_rarely_proves_what_is_no_better(case):
    """Also where neither evidence promises it: docs/ladder.md has the table."""
    for rule in (PAIRS, RANKS):
        assert make_ladder.prove(case, 0, rule, 2000)[0] <= (0.004 if case.alike else 0.055)
    assert make_ladder.prove(case, 5, RANKS, 200) == (1, pytest.approx(7, abs=0.5))
