"""Statistics of paired differences. Functions take many samples at once: differences are (..., n), n seeds last.

The t interval and test are exact for normal differences. The sign-flip test is exact for differences that are symmetric
about 0. They are if nothing differs at all, whatever the distribution of the scores; they need not be if only the means
agree and one side's scores are skewed. Equivalence is shown by two one-sided tests (Schuirmann 1987) of either kind.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit  # of scipy.stats, which takes a second to import

Array = NDArray[np.float64]
Truth = NDArray[np.bool_]

EXACT_UP_TO = 16  # seeds; beyond, the sign-flip test draws RANDOM_FLIPS of the 2^n patterns
RANDOM_FLIPS = 2**16
MOST_SEEDS = 200  # the most that ``seeds_needed`` considers
SIMULATIONS = 1000  # the standard error of the power is at most 1.6 points
SKEWED = 2**14  # simulated samples; a share of 1% is then known to .1%
FLIPPED_UP_TO = 12  # seeds; beyond, simulations use the t test's p in place of the sign-flip test's: they are near then


class TTest(NamedTuple):
    """Student's t test of n paired differences; each field is (...).

    low, high: the interval. p: two-sided, of "the mean is 0". equivalence_p: the larger p of the two one-sided tests
    of "the mean is outside -margin..margin".
    """

    mean: Array
    sd: Array
    low: Array
    high: Array
    p: Array
    equivalence_p: Array


def t_test(differences: Array, margin: Array | float, confidence: float) -> TTest:
    """The paired t test and interval. differences: (..., n), n at least 2; margin: (...), at least 0."""
    n = differences.shape[-1]
    mean, sd = differences.mean(-1), differences.std(-1, ddof=1)
    error = sd / math.sqrt(n)
    half = -error * stdtrit(n - 1, (1 - confidence) / 2)
    above, below = (stdtr(n - 1, -_ratio(margin + side * mean, error)) for side in (1, -1))
    return TTest(
        mean=mean,
        sd=sd,
        low=mean - half,
        high=mean + half,
        p=2 * stdtr(n - 1, -_ratio(np.abs(mean), error)),
        equivalence_p=np.where((mean == 0) & (sd == 0), 0.0, np.maximum(above, below)),
    )


def sign_flip_p(differences: Array) -> Array:
    """Two-sided p: the share of sign patterns whose mean is as far from 0 as the observed one. (..., n) -> (...).

    Exact up to EXACT_UP_TO seeds; beyond, among the observed pattern and RANDOM_FLIPS - 1 drawn from a fixed seed.
    """
    sums = np.abs(differences @ _signs(differences.shape[-1]).T)
    rounding = 1e-12 * np.abs(differences).sum(-1, keepdims=True)  # the order of addition must not break ties
    return np.mean(sums >= np.abs(differences.sum(-1, keepdims=True)) - rounding, axis=-1)


def shifted_flip_p(differences: Array, margin: Array | float) -> Array:
    """The larger p of the two one-sided sign-flip tests of "the mean is outside -margin..margin", if it is inside.

    (..., n) -> (...). Such a test is that of the differences shifted by the margin, and half of its two-sided p.
    """
    shift = np.asarray(margin)[..., None]
    return np.maximum(sign_flip_p(differences + shift), sign_flip_p(differences - shift)) / 2


def skewness_p(differences: Array) -> tuple[float, float]:
    """The skewness of (n,) differences, and the share of normal samples of n that are as skewed.

    The share is exact but for simulation: the skewness of normal samples does not depend on their mean and sd.
    """
    skewness = float(_skewness(differences))
    return skewness, float(np.mean(_skewnesses(len(differences)) >= abs(skewness) - 1e-9))


def is_different(mean: Array, adjusted_p: Array, flip_p: Array, margin: Array | float, alpha: float) -> Truth:
    """Whether both tests reject "no difference" and the mean lies beyond the margin. adjusted_p: of the t test."""
    return (adjusted_p < alpha) & (flip_p <= alpha) & (np.abs(mean) > margin)


def is_equivalent(adjusted_p: Array, flip_p: Array, alpha: float) -> Truth:
    """Whether the one-sided tests of both kinds reject. Then the mean is within the margin: it never holds with
    ``is_different``. adjusted_p: of the t tests; flip_p: ``shifted_flip_p``."""
    return (adjusted_p <= alpha) & (flip_p <= alpha)


def fewest_seeds(alpha: float) -> int:
    """The fewest seeds at which the sign-flip test can reach p <= alpha: six for .05, because 2 / 2^5 is .0625."""
    return math.ceil(math.log2(2 / alpha) - 1e-9)


def settling_power(n: int, mean: float, sd: float, margin: float, confidence: float, family: float = 1) -> float:
    """The chance that n seeds give the right verdict, for normal differences with that mean and sd.

    The right verdict is "different", in the mean's direction, if the mean is beyond the margin, else "equivalent".
    family: the number of verdicts that share the error rate equally. Simulated by the verdict's own rule from a fixed
    seed.
    """
    differences = mean + sd * _normals()[:, :n]
    test = t_test(differences, margin, confidence)
    if abs(mean) <= margin:
        flip_p = shifted_flip_p(differences, margin) if n <= FLIPPED_UP_TO else test.equivalence_p
        return float(is_equivalent(test.equivalence_p * family, flip_p, 1 - confidence).mean())
    flip_p = sign_flip_p(differences) if n <= FLIPPED_UP_TO else test.p
    different = is_different(test.mean, test.p * family, flip_p, margin, 1 - confidence)
    return float((different & (np.sign(test.mean) == np.sign(mean))).mean())


def seeds_needed(
    mean: float, sd: float, margin: float, confidence: float, power: float, family: float = 1
) -> int | None:
    """The fewest seeds whose ``settling_power`` is at least ``power``; None if MOST_SEEDS are not enough."""
    counts = range(2, MOST_SEEDS + 1)
    place = bisect_left(counts, power, key=lambda n: settling_power(n, mean, sd, margin, confidence, family))
    return counts[place] if place < len(counts) else None


def _ratio(value: Array, error: Array) -> Array:
    """value / error; an error of zero means certainty."""
    certain = np.where(value == 0, 0.0, np.copysign(np.inf, value))
    return np.where(error > 0, value / np.where(error > 0, error, 1.0), certain)


def _skewness(differences: Array) -> Array:
    """The third standardised moment, (..., n) -> (...); 0 if the differences are equal."""
    centred = differences - differences.mean(-1, keepdims=True)
    return _ratio((centred**3).mean(-1), (centred**2).mean(-1) ** 1.5)


@cache
def _skewnesses(n: int) -> Array:
    """(SKEWED,): the |skewness| of normal samples of n."""
    return np.abs(_skewness(np.random.default_rng(0).standard_normal((SKEWED, n))))


@cache
def _signs(n: int) -> Array:
    """(patterns, n) of -1 and 1; the first pattern is all 1. A pattern's mirror image gives the same |mean|."""
    if n <= EXACT_UP_TO:
        patterns = np.arange(2 ** (n - 1))[:, None] >> np.arange(n) & 1
    else:
        patterns = np.random.default_rng(0).integers(0, 2, (RANDOM_FLIPS, n))
        patterns[0] = 0
    return np.where(patterns, -1.0, 1.0)


@cache
def _normals() -> Array:
    """(SIMULATIONS, MOST_SEEDS): the same draws for every n, so that power grows smoothly with it."""
    return np.random.default_rng(0).standard_normal((SIMULATIONS, MOST_SEEDS))
