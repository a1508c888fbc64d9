"""How often the verdict of a tuned study is false: of the values chosen, or read as one about the best values."""

import math
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from ddpm.verdicts import statistics, tuning, verdict
from ddpm.verdicts.sequential import Design

LOOKS, ALPHA = (8, 12, 16, 20), 0.05
# a score by value in standard deviations of a paired difference, the same for both arms: their best do not differ
RESPONSES = ([0, 0, 0, 0], [0, 0.5, 1, 2], [0, 1, 2, 4], [1, 0, 1, 4], [0, 0.3, 0.6, 1], [0, 3, 6, 12])


def decided(differences, level: float) -> NDArray[np.int64]:
    """-1 for better, 1 for worse, 0 if no look decides: (..., seeds) -> (...)."""
    tests = [statistics.t_test(differences[..., :look], 0.0, 0.95) for look in LOOKS]
    crossed = np.stack([Design(LOOKS).p(place, test.p) for place, test in enumerate(tests)], -1) <= level
    signs = np.sign(np.stack([test.mean for test in tests], -1))
    first = np.take_along_axis(signs, crossed.argmax(-1)[..., None], -1)[..., 0]
    return np.where(crossed.any(-1), first, 0).astype(int)


class Simulated(NamedTuple):
    """Studies of two arms. place: (studies, arms), of the values chosen; possible: (studies, arms, points); outcome:
    (studies,), as ``decided`` has it."""

    place: NDArray[np.int64]
    possible: NDArray[np.bool_]
    outcome: NDArray[np.int64]


def simulated(means, seeds: int, trials: int) -> Simulated:
    random, points = np.random.default_rng(0), len(means[0])

    def scores(count: int, share: float):
        shared = math.sqrt(share) * random.standard_normal((trials, 1, 1, count))
        return (
            np.array(means)[:, :, None]
            + shared
            + math.sqrt(1 - share) * random.standard_normal((trials, 2, points, count))
        )

    # pairs of the verdict share half of their variance, so that their differences have a variance of 1; runs for tuning
    # share none, which makes the choice as noisy as it can be
    tuned, fresh = scores(seeds, 0.0), scores(LOOKS[-1], 0.5)
    place, low, _ = tuning.best(tuned, ALPHA, arms=2)
    baseline, arm = np.moveaxis(np.take_along_axis(fresh, place[..., None, None], 2), 1, 0)
    return Simulated(place, low <= 0, decided((arm - baseline)[:, 0], ALPHA * verdict.PRIMARY))


def would_be_false(response, seeds: int, trials: int) -> float:
    """The share of studies whose verdict would be false of the best values. It is rarely false of those chosen, and the
    best value is rarely excluded."""
    studies = simulated([response, response], seeds, trials)
    means = np.array(response)[studies.place]
    false = (studies.outcome != 0) & (studies.outcome != np.sign(means[:, 1] - means[:, 0]))
    error = 3 * math.sqrt(ALPHA * (1 - ALPHA) / trials)
    assert false.mean() < ALPHA + error
    assert (~studies.possible[..., int(np.argmin(response))]).any(-1).mean() < ALPHA * tuning.EXCLUDING + error
    return (studies.outcome != 0).mean()


def test_verdicts_are_rarely_false_of_the_values_chosen_whatever_the_response():
    # and say nothing about the best ones
    assert max(would_be_false(response, 4, 1500) for response in RESPONSES) > 0.1


@pytest.mark.parametrize("seeds", [4, 8])
def test_a_difference_is_found_and_more_seeds_exclude_more(seeds):
    studies = simulated([[1, 0, 1, 4], [-1, -2, -1, 2]], seeds, 1000)
    assert (studies.outcome == -1).mean() > 0.9
    assert (studies.outcome == 1).mean() == 0
    assert studies.possible[..., 1].all()
    assert studies.possible[..., 3].mean() < (0.8 if seeds == 4 else 0.2)
