"""Statistics of paired differences. Functions take many samples at once: differences are (..., n), n seeds last.
Welch's test is for runs that share no seeds.

The t interval and test are exact for normal differences. The sign-flip test is exact for differences that are symmetric
about 0. They are if nothing differs at all, whatever the distribution of the scores; they need not be if only the means
agree and one side's scores are skewed. Equivalence is shown by two one-sided tests (Schuirmann 1987) of either kind.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit  # of scipy.stats, which takes a second to import

Array = NDArray[np.float64]


class TTest(NamedTuple):
    """Student's t test of n paired differences; each field is (...)."""

    mean: Array
    sd: Array
    low: Array  # the interval
    high: Array
    p: Array  # two-sided, of "the mean is 0"
    equivalence_p: Array  # the larger p of the two one-sided tests of "the mean is outside -margin..margin"


def t_test(differences: Array, margin: Array | float, confidence: float) -> TTest:
    """The paired t test and interval. differences: (..., n), n at least 2; margin: (...), at least 0."""
    n, sd = differences.shape[-1], differences.std(-1, ddof=1)
    return _test(differences.mean(-1), sd, sd / math.sqrt(n), n - 1, margin, confidence)


def welch_test(before: Array, after: Array, margin: float, confidence: float) -> TTest:
    """Welch's (1947) two-sample t test and interval of the mean of (m,) ``after`` minus that of (n,) ``before``, whose
    sds may differ; m and n at least 2."""
    parts = np.array([scores.var(ddof=1) / len(scores) for scores in (before, after)])
    weights = parts / (parts.sum() or 1.0)
    freedom = 1 / max(float(weights**2 @ [1 / (len(before) - 1), 1 / (len(after) - 1)]), 1e-9)
    error = np.sqrt(parts.sum())
    return _test(after.mean() - before.mean(), error, error, freedom, margin, confidence)


def _test(mean: Array, sd: Array, error: Array, freedom: float, margin: Array | float, confidence: float) -> TTest:
    """Student's t test of a mean with that standard error."""
    half = -error * stdtrit(freedom, (1 - confidence) / 2)
    above, below = (stdtr(freedom, -_ratio(margin + side * mean, error)) for side in (1, -1))
    return TTest(
        mean=mean,
        sd=sd,
        low=mean - half,
        high=mean + half,
        p=2 * stdtr(freedom, -_ratio(np.abs(mean), error)),
        equivalence_p=np.where((mean == 0) & (sd == 0), 0.0, np.maximum(above, below)),
    )


def collapse_rate(seeds: int, error: float = 0.05) -> float:
    """The share of all seeds that may be worse than the worst of these, whatever the distribution. If more were, these
    would contain one of them with a chance of 1 - error (Wilks 1941)."""
    return float(1 - error ** (1 / seeds))


def fewest_seeds(alpha: float) -> int:
    """The fewest seeds at which the sign-flip test can reach p <= alpha: six for .05, because 2 / 2^5 is .0625."""
    return math.ceil(math.log2(2 / alpha) - 1e-9)


def _ratio(value: Array, error: Array) -> Array:
    """value / error; an error of zero means certainty."""
    certain = np.where(value == 0, 0.0, np.copysign(np.inf, value))
    return np.where(error > 0, value / np.where(error > 0, error, 1.0), certain)
