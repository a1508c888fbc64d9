"""When an idea of a stream is better than the champion: e-values of paired differences, and e-LOND over the stream.

A *gain* is what the challenger is better by, on one seed; there is one for each seed, in order. Let z be the gain
divided by the root mean square of the gains before it; its sign for the first. The e-value is the product of

    1 + min(tanh z, CAP).

**Valid** if, given the past, each gain is symmetric about a value of at most 0. Given the past, the scale is fixed and
tanh is odd and increasing, so each factor has a mean of at most 1: the product is a nonnegative supermartingale, and
the chance that it ever reaches 1 / level is at most ``level`` (Ville 1939). It may be looked at after every seed. If an
idea does nothing, champion and challenger are exchangeable on each seed, and the gain is exactly symmetric, whatever
the distribution of the scores. 1 + tanh z = exp(z) / cosh(z) is the likelihood ratio of a normal effect against the
mean of it and its mirror image, the best e-value for symmetry against that effect (Larsson, Ramdas & Ruf 2024,
arXiv:2402.18810; Vovk & Wang 2024, Nonparametric e-tests of symmetry), and never below the exp(z - z^2 / 2) of de la
Pena (1999). At an effect of 1 sd it is as strong as the Bayes factor of the t test, which needs normal gains; at 3 sd
it takes 13 seeds instead of 9 to reach 1000, as no factor is above 2. The cap on gains costs more seeds and no
validity; it limits what a few large gains can earn.

**Rare collapses** make gains that are not symmetric: a little on most seeds, and a large loss on a few. Until the first
loss nothing tells them from progress, and no cap does: of 100 ideas that gain 1 (sd 1) on 95% of seeds and lose 19 on
the others, so nothing on average, 25 become rungs. ``statistics.collapse_rate`` is what the seeds of a rung cannot
exclude; an attempt that meets a loss as large as all gains (``collapses``) is refused.

**e-LOND** (Xu & Ramdas 2024, arXiv:2311.06412) accepts attempt t if its e-value reaches 1 / (error share(t) (rungs +
1)), where the shares sum to 1. Then the expected share of false rungs is at most ``error`` at any time, however the
e-values depend on each other and whoever proposes ideas after reading the results.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import zeta

from ddpm.verdicts.statistics import Array

Truth = NDArray[np.bool_]

CAP = 0.6
HOPE = 2.0  # standard errors: how much larger than observed the effect may be before a stop is early
FIRST = 3  # seeds before the first such stop
POWER, SHIFT = 1.5, 5  # of the shares: a stream of 20 to 300 ideas gets most out of these
EFFECTS = np.linspace(0, 6, 121)  # in standard deviations of the gains
SIMULATED = 2000  # attempts behind ``seeds_needed``
LIMITS = 401  # values that ``interval`` tries


def _log_factor(z: Array) -> Array:
    return np.minimum(math.log(2) - np.logaddexp(0, -2 * z), math.log1p(CAP))  # log(1 + tanh z), without overflow


def log_e(gains: Array) -> Array:
    """The logarithm of the e-value after each seed: (..., n) -> (..., n)."""
    seeds = np.arange(1, gains.shape[-1] + 1)
    scale = np.sqrt((gains**2).cumsum(-1) / seeds)
    scale = np.concatenate([np.zeros_like(gains[..., :1]), scale[..., :-1]], -1)
    z = np.divide(gains, scale, out=np.sign(gains), where=scale > 0)
    return _log_factor(z).cumsum(-1)


def share(attempt: int) -> float:
    """The part of the error that an attempt may spend, by its number from 1: 1 / (attempt + SHIFT)^POWER over the sum
    of all. Early ideas get less than with 1 / attempt^2, and the hundredth eighteen times as much."""
    return float((attempt + SHIFT) ** -POWER / zeta(POWER, 1 + SHIFT))


def threshold(attempt: int, rungs: int, error: float) -> float:
    """The e-value at which e-LOND accepts an attempt. rungs: how many are accepted when it starts."""
    return 1 / (error * share(attempt) * (rungs + 1))


def fewest(needed: float) -> int:
    """The fewest seeds after which the e-value can be ``needed``: if every gain is a large one."""
    return math.ceil(math.log(needed) / math.log1p(CAP) - 1e-9)


class Look(NamedTuple):
    """After each seed, (..., n): whether the attempt may be accepted, and whether it has become hopeless."""

    accepts: Truth
    hopeless: Truth


def looks(gains: Array, needed: Array | float, at_least: int, most: int) -> Look:
    """What each seed shows. needed: the e-value to reach, (...). at_least, most: seeds.

    It is hopeless if the rest up to ``most``, at the growth of an effect HOPE standard errors larger than observed,
    would not be enough. Every rule for stopping early is valid.
    """
    seeds, log_needed = np.arange(1, gains.shape[-1] + 1), np.log(np.asarray(needed))[..., None]
    mean = gains.cumsum(-1) / seeds
    variance = np.maximum((gains**2).cumsum(-1) / seeds - mean**2, 0) * seeds / np.maximum(seeds - 1, 1)
    effect = np.divide(mean, np.sqrt(variance), out=np.sign(mean) * EFFECTS[-1], where=variance > 0)
    growth = np.interp(effect + HOPE / np.sqrt(seeds), EFFECTS, _growth(), left=0)
    growth = np.where((gains != 0).cumsum(-1) > 0, growth, 0)  # the same images on every seed
    log = log_e(gains)
    hopeless = (seeds >= FIRST) & (log + (most - seeds) * growth < log_needed)
    return Look((seeds >= at_least) & (log >= log_needed), hopeless)


def collapses(gains: Array) -> Truth:
    """Whether the worst loss exceeds the sum of the gains, after each seed: (..., n) -> (..., n)."""
    truth: Truth = np.maximum.accumulate(-gains, -1) > np.maximum(gains, 0).cumsum(-1)
    return truth


@cache
def _growth() -> Array:
    """The mean logarithm of a factor for each of EFFECTS, by Gauss-Hermite quadrature: normal gains, known scale."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(61)
    z = (EFFECTS[:, None] + nodes) / np.sqrt(1 + EFFECTS[:, None] ** 2)
    growth: Array = _log_factor(z) @ (weights / weights.sum())
    return growth


def seeds_needed(effect: float, needed: float, most: int) -> int | None:
    """How many seeds half of all attempts would need for the e-value ``needed``, at a normal effect in standard
    deviations of the gains; None if more than ``most``."""
    gains = np.random.default_rng(0).standard_normal((SIMULATED, most)) + effect
    reached = (np.maximum.accumulate(log_e(gains), axis=1) >= math.log(needed)).mean(0) >= 0.5
    return int(reached.argmax()) + 1 if reached.any() else None


def interval(gains: Array, error: float) -> tuple[float, float]:
    """The interval of the effect, of n gains: the values between which no e-value, of either direction, reaches 2 /
    error. It holds at any stop with a chance of 1 - error; infinite where the seeds are too few."""
    limits = np.concatenate([-np.geomspace(1e2, 1e-3, LIMITS), [0], np.geomspace(1e-3, 1e2, LIMITS)])
    spread = float(gains.std()) or float(np.abs(gains).max()) or 1.0
    values = gains.mean() + spread * limits  # at the mean itself the two e-values' product is at most 1
    without = gains - values[:, None]
    excluded = np.maximum(log_e(without)[:, -1], log_e(-without)[:, -1]) >= math.log(2 / error)
    inside = np.flatnonzero(~excluded)
    low, high = inside[0] - 1, inside[-1] + 1
    return (float(values[low]) if low >= 0 else -math.inf, float(values[high]) if high < len(values) else math.inf)
