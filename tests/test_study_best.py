"""What a tuned study claims: how often that is false, and at which other values a claim about the best has to hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from ddpm.study import judging
from ddpm.study.plan import Point
from ddpm.verdicts import statistics, tuning, verdict
from ddpm.verdicts.comparison import Judgement
from ddpm.verdicts.pairing import Arm
from ddpm.verdicts.sequential import Design
from ddpm.verdicts.statistics import Array
from ddpm.verdicts.tuning import Tried
from ddpm.verdicts.verdict import Verdict
from tests.scored import rescored, result, study

# --- how often a verdict is false

LOOKS, ALPHA = (8, 12, 16, 20), 0.05
# a score by value in standard deviations of a paired difference, the same for both arms: their best do not differ
RESPONSES = ([0, 0, 0, 0], [0, 0.5, 1, 2], [0, 1, 2, 4], [1, 0, 1, 4], [0, 0.3, 0.6, 1], [0, 3, 6, 12])


def decided(differences: Array, level: float) -> NDArray[np.int64]:
    """-1 for better, 1 for worse, 0 if no look decides: (..., seeds) -> (...)."""
    tests = [statistics.t_test(differences[..., :look], 0.0, 0.95) for look in LOOKS]
    crossed = np.stack([Design(LOOKS).p(place, test.p) for place, test in enumerate(tests)], -1) <= level
    signs = np.sign(np.stack([test.mean for test in tests], -1))
    first = np.take_along_axis(signs, crossed.argmax(-1)[..., None], -1)[..., 0]
    return np.where(crossed.any(-1), first, 0).astype(int)


class Simulated(NamedTuple):
    """Studies of two arms. tuned, fresh: (studies, arms, points, seeds); place: (studies, arms), of the values chosen;
    possible: (studies, arms, points); chosen, best: (studies,), the outcome of each claim as ``decided`` has it."""

    tuned: Array
    fresh: Array
    place: NDArray[np.int64]
    possible: NDArray[np.bool_]
    chosen: NDArray[np.int64]
    best: NDArray[np.int64]


def simulated(means: Sequence[Sequence[float]], seeds: int, trials: int, crossed: bool = False) -> Simulated:
    """crossed: an arm's first value shares its noise with the other's last value, and so on."""
    random, points = np.random.default_rng(0), len(means[0])

    def scores(count: int, share: float) -> Array:
        shared = math.sqrt(share) * random.standard_normal((trials, 1, 1, count))
        own = math.sqrt(1 - share) * random.standard_normal((trials, 2, points, count))
        if crossed:
            own[:, 1] = own[:, 0, ::-1] + 0.02 * own[:, 1]
        return np.array(means)[:, :, None] + shared + own

    # pairs of the verdict share half of their variance, so that their differences have a variance of 1; runs for tuning
    # share none, which makes the choice as noisy as it can be
    tuned, fresh = scores(seeds, 0.0), scores(LOOKS[-1], 0.5)
    place = tuning.best(tuned, lower=True).astype(int)
    possible = tuning.behind(tuned, True, tuning.level(ALPHA, 2, points))[0] <= 0
    baseline, arm = np.moveaxis(np.take_along_axis(fresh, place[..., None, None], 2), 1, 0)
    level = ALPHA * (verdict.PRIMARY - verdict.EXCLUDING)
    better = ((decided(arm - fresh[:, 0], level) < 0) | ~possible[:, 0]).all(-1)
    worse = ((decided(fresh[:, 1] - baseline, level) > 0) | ~possible[:, 1]).all(-1)
    chosen = decided((arm - baseline)[:, 0], ALPHA * verdict.PRIMARY)
    return Simulated(tuned, fresh, place, possible, chosen, worse.astype(int) - better)


def would_be_false(response: Sequence[float], seeds: int, trials: int) -> float:
    """The share of studies whose verdict would be false of the best values. It is rarely false of those chosen, nor
    are claims of the best."""
    found = simulated([response, response], seeds, trials)
    means = np.array(response)[found.place]
    false = (found.chosen != 0) & (found.chosen != np.sign(means[:, 1] - means[:, 0]))
    error = 3 * math.sqrt(ALPHA * (1 - ALPHA) / trials)
    assert max(false.mean(), (found.best != 0).mean()) < ALPHA + error
    assert (~found.possible[..., int(np.argmin(response))]).any(-1).mean() < ALPHA * verdict.EXCLUDING + error
    return (found.chosen != 0).mean()


@pytest.mark.parametrize(
    ("seeds", "trials"), [(4, 1500), *(pytest.param(seeds, 20000, marks=pytest.mark.slow) for seeds in (2, 4, 8))]
)
def test_verdicts_are_rarely_false_of_what_they_claim_whatever_the_response(seeds, trials):
    # so a verdict about the values chosen says nothing about the best ones
    assert max(would_be_false(response, seeds, trials) for response in RESPONSES) > 0.1


def test_excluding_the_best_value_is_paid_for():
    """Once tuning has excluded an arm's best value here, a false verdict is certain, so each such error counts."""
    trials = 20000
    found = simulated([[0, 0.1], [0, 0.1]], 4, trials, crossed=True)
    lost = ~found.possible[..., 0].all(-1)
    assert 0.5 * ALPHA * verdict.EXCLUDING < lost.mean() < 1.2 * ALPHA * verdict.EXCLUDING
    assert (found.best[lost] != 0).mean() > 0.9
    assert 0.5 * ALPHA < (found.best != 0).mean() < ALPHA


@pytest.mark.parametrize("seeds", [4, 8])
def test_a_difference_at_the_best_is_found(seeds):
    found = simulated([[1, 0, 1, 4], [-1, -2, -1, 2]], seeds, 1000)
    assert (found.best == -1).mean() > 0.9
    assert (found.best == 1).mean() == 0
    assert found.possible[..., 1].all()
    assert found.possible[..., 3].mean() < (0.8 if seeds == 4 else 0.2)


# --- which values a claim about the best has to hold at

FD, RATE, RATES = "classifier.fd", "train.learning_rate", (0.001, 0.002, 0.004, 0.008)
ARMS = ("cosine", "linear")
MADE = {arm: result(arm) for arm in ARMS}


def claimed(fresh: Array, place: Sequence[int], possible: NDArray[np.bool_], run: NDArray[np.bool_]) -> Judgement:
    """What a study claims. fresh: (arms, points, seeds); possible, run: (arms, points), run at values not chosen."""
    rates = list(RATES[: fresh.shape[1]])
    plan = study("linear", looks=LOOKS, tune={RATE: rates, "seeds": 4, "claim": "best"})
    plan.points = {arm: [Point({RATE: rate}, plan.configs[arm]) for rate in rates] for arm in ARMS}
    plan.chosen = {arm: plan.points[arm][at] for arm, at in zip(ARMS, place, strict=True)}
    runs, tried = {}, []
    for side, arm in enumerate(ARMS):
        for at, row in enumerate(fresh[side].tolist()):
            tried.append(Tried(arm, {RATE: RATES[at]}, (), 0.0, at == place[side], possible=bool(possible[side, at])))
            runs[arm, at] = {seed: rescored(MADE[arm], seed, {FD: score}) for seed, score in enumerate(row)}
    arms = [Arm(arm, {RATE: RATES[at]}, runs[arm, at]) for arm, at in zip(ARMS, place, strict=True)]
    others = {(arm, at): runs[arm, at] for (arm, at) in runs if run[ARMS.index(arm), at]}
    return judging.claimed(plan, judging.of_arms(plan, arms), others, tried)


def primary(judgement: Judgement) -> Verdict:
    return next(each for each in judgement.verdicts if each.metric == FD)


def scores(means: Sequence[Sequence[float]], count: int = 8) -> Array:
    """Clear gaps around 10, so that a hundredth of the baseline's mean is a gap that matters."""
    return 10 + np.array(means)[:, :, None] + 0.01 * np.random.default_rng(0).standard_normal((2, len(means[0]), count))


ALL, NONE = np.ones((2, 3), bool), np.zeros((2, 3), bool)


@pytest.mark.parametrize(
    ("means", "outcome", "needed"),
    [
        ([[0, 1, 2], [-3, -2, -1]], "better", {("cosine", 1), ("cosine", 2)}),
        ([[0, 1, 2], [3, 4, 5]], "worse", {("linear", 1), ("linear", 2)}),
        ([[0, 0, 0], [0, 0, 0]], "equivalent", {(arm, at) for arm in ARMS for at in (1, 2)}),
    ],
)
def test_only_the_values_that_could_overturn_a_verdict_are_run(means, outcome, needed):
    waits = claimed(scores(means), (0, 0), ALL, NONE)
    assert primary(waits).outcome == "not yet"
    assert not primary(waits).at_best
    assert waits.open == ARMS
    assert waits.next_look == 8
    assert {(arm, at) for waiting, arm, at in waits.alternatives if waiting == "linear"} == needed
    holds = claimed(scores(means), (0, 0), ALL, ALL)
    assert (primary(holds).outcome, primary(holds).at_best) == (outcome, True)
    assert primary(holds).said == f"{outcome} at its best"
    assert (holds.open, holds.next_look, holds.alternatives) == ((), None, ())
    # tuning has excluded them: nothing else has to be run
    only_chosen = np.array([[True, False, False]] * 2)
    assert primary(claimed(scores(means), (0, 0), only_chosen, NONE)).at_best


@pytest.mark.parametrize(
    ("baseline", "outcome", "at_best"),
    [([0, 1, -9], "inconclusive", False), ([0, 1, -3.01], "inconclusive", False), ([0, 1, -1], "better", True)],
)
def test_one_value_at_which_it_does_not_hold_refutes_it(baseline, outcome, at_best):
    found = claimed(scores([baseline, [-3, -2, -1]]), (0, 0), ALL, ALL)
    assert (primary(found).outcome, primary(found).at_best) == (outcome, at_best)
    assert found.open == ()


def test_a_value_that_is_open_at_a_look_waits_for_the_next_one():
    fresh = scores([[0, 1, 2], [-3, -2, -1]])
    fresh[0, 1] = 10 - 3 + np.array([2.5, -1, 1, 2, 2, 0, -1, 1])
    found = claimed(fresh, (0, 0), ALL, ALL)
    assert primary(found).outcome == "not yet"
    assert (found.next_look, found.alternatives) == (12, (("linear", "cosine", 1),))


@pytest.mark.slow
def test_the_simulation_claims_what_a_study_claims():
    """But for the sign-flip test, which the simulation leaves out: it only takes verdicts away."""
    found = simulated([[1, 0, 1, 4], [0.5, -0.7, 0.5, 3]], 4, 40)
    signs = {"better": -1, "worse": 1}
    real = []
    for number in range(40):
        one = claimed(found.fresh[number], found.place[number], found.possible[number], np.ones((2, 4), bool))
        real.append(signs.get(primary(one).outcome, 0))
    assert set(np.array(real)[np.array(real) != found.best]) <= {0}
    assert 5 < np.count_nonzero(real) < 40
    assert (np.array(real) == found.best).mean() >= 0.9
