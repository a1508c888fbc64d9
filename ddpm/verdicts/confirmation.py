"""A regression in two steps: one run raises an alarm, and the mean of fresh runs confirms it.

The fresh runs' mean is tested alone: together with the first run it would be no stronger, and would have that one's bad
luck. The bounds are exact for normal scores with equal spread, however few runs the baseline has.
"""

import math
from functools import cache

import numpy as np
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from ddpm.verdicts.statistics import Array

FRESH = 3  # runs that confirm an alarm or clear it
ALARM = 0.15  # share of honest runs that raise one in a metric
AT_ONCE = 0.1  # part of the error rate for runs so bad that they fail without fresh ones
QUANTILES = (np.arange(1024) + 0.5) / 1024


@cache
def bounds(stored: int, level: float) -> tuple[float, float, float]:
    """How far beyond the baseline's mean a run fails at once, how far it raises an alarm, and how far the mean of the
    fresh runs confirms it, in sd of the baseline's ``stored`` runs. level: the share of honest runs that fail."""
    freedom, at_once, alarm = stored - 1, AT_ONCE * level, max(ALARM, 2 * level)
    one, few = (math.sqrt(1 / runs + 1 / stored) for runs in (1, FRESH))
    # the first run's t where it raises an alarm; given that, the fresh ones' is t with a degree more (Ding 2016, The
    # American Statistician 70): both have the baseline's mean and sd in common
    first = -stdtrit(freedom, at_once + (alarm - at_once) * QUANTILES)
    shared = 1 / stored / (one * few)
    scale = np.sqrt((1 - shared**2) * (freedom + first**2) / (freedom + 1))
    low, high = stdtrit(freedom, [level / 2, 1 - level / 2])
    for _ in range(50):
        middle = (low + high) / 2
        confirms = (alarm - at_once) * stdtr(freedom + 1, (shared * first - middle) / scale).mean()
        low, high = (middle, high) if confirms > level - at_once else (low, middle)
    fails, alarms = (-one * float(stdtrit(freedom, part)) for part in (at_once, alarm))
    return fails, alarms, few * float(high)


def regressions_noticed(limits: Array, sd: float, chances: Array) -> Array:
    """The regressions that are noticed with these (n,) chances, given this baseline. limits: (3,) as ``bounds``, but in
    the metric's unit."""
    at_once, alarm, confirm = limits
    effects = np.linspace(0, at_once + 4 * sd, 512)
    first = effects[:, None] + sd * ndtri(QUANTILES)
    confirmed = ndtr((effects - confirm) * math.sqrt(FRESH) / max(sd, 1e-300))[:, None]
    chance = np.where(first > at_once, 1.0, np.where(first > alarm, confirmed, 0.0)).mean(1)
    return np.interp(chances, chance, effects)
