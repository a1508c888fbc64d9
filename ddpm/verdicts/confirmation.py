"""A regression in two steps: one run raises an alarm, and the mean of fresh runs confirms it.

The fresh runs' mean is tested alone: together with the first run it would be no stronger, and would have that one's bad
luck. The bounds are exact for normal scores with equal spread, however few runs the baseline has.
"""

import math
from functools import cache

import numpy as np
from scipy.special import stdtr, stdtrit

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
