"""When an idea of a stream is better than the champion: e-values of the runs of both sides, and e-LOND over the stream.

A *gain* is what the challenger is better by, on one seed; there is one for each seed, in order.

**PAIRS.** Let z be the gain divided by the root mean square of the gains before it; its sign for the first. The e-value
is the product of

    1 + min(tanh z, CAP).

It is valid if, given the past, each gain is symmetric about a value of at most 0. Given the past, the scale is fixed
and tanh is odd and increasing, so each factor has a mean of at most 1: the product is a nonnegative supermartingale,
and the chance that it ever reaches 1 / level is at most ``level`` (Ville 1939). It may be looked at after every seed.
If an idea does nothing, champion and challenger are exchangeable on each seed, and the gain is exactly symmetric,
whatever the distribution of the scores. 1 + tanh z = exp(z) / cosh(z) is the likelihood ratio of a normal effect
against the mean of it and its mirror image, the best e-value for symmetry against that effect (Larsson, Ramdas & Ruf
2024, arXiv:2402.18810; Vovk & Wang 2024, Nonparametric e-tests of symmetry), and never below the exp(z - z^2 / 2) of de
la Pena (1999). No factor is above 1 + CAP, so it takes 12 seeds to reach 250 at any effect.

**RANKS.** After n seeds all 2n runs are ordered, the worst first. Let x and y be how many of the first i are the
champion's and the challenger's. The mean over HAZARDS, h, of

    (2n)! h^n / product over i of (x + h y)

is the likelihood ratio of the order if each run of the challenger is h times as likely to be the best of those i as one
of the champion's (Lehmann alternatives: Savage 1956, doi:10.1214/aoms/1177728182), against all orders being equally
likely. So it is a martingale as n grows if the runs of both sides are exchangeable, and smaller if the challenger is
worse in stochastic order. At large effects it reaches 250 after 7 seeds. If runs of one seed are alike it is smaller on
average, but too large if they are opposites.

RANKS is the larger of this and PAIRS, halved: then each may err at half of the level, at any stop. Their mean would not
do: one is a martingale given the order alone, the other given the gains (Choe & Ramdas 2024, arXiv:2402.09698).

**Rare collapses** make neither valid: a little gain on most seeds, and a large loss on a few. Until the first loss
nothing tells them from progress, and no cap does (docs/ladder.md has how many become rungs).
``statistics.collapse_rate`` is what the seeds of a rung cannot exclude; an attempt that meets a loss as large as all
gains (``collapses``) is refused.

**e-LOND** (Xu & Ramdas 2024, arXiv:2311.06412) accepts attempt t if its e-value reaches 1 / (error share(t) (rungs +
1)), where the shares sum to 1. Then the expected share of false rungs is at most ``error`` at any time, however the
e-values depend on each other and whoever proposes ideas after reading the results.
"""

import math
from functools import cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, zeta

from ddpm.verdicts.statistics import Array

Truth = NDArray[np.bool_]

CAP = 0.6
HAZARDS = 3.0 ** np.arange(1, 5)  # few, so that each has much weight
HOPE = 2.0  # standard errors: how much larger than observed the effect may be before a stop is early
FIRST = 3  # seeds before the first such stop
POWER, SHIFT = 1.5, 5  # of the shares: a stream of 20 to 300 ideas gets most out of these
ALIKE = 0.36  # the correlation of two arms by seed: the median of 215 stored pairs of arms
EFFECTS = np.linspace(0, 6, 121)  # in standard deviations of the gains
SIMULATED = 500  # attempts behind ``seeds_needed``
MOST = 200  # seeds of an attempt, at most
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


class Look(NamedTuple):
    """After each seed, (..., n): whether the attempt may be accepted, and whether it has become hopeless."""

    accepts: Truth
    hopeless: Truth


class Evidence(NamedTuple):
    """A kind of evidence: PAIRS or RANKS. Scores are (..., n) of each side by seed, signed so that higher is better."""

    name: Literal["pairs", "ranks"]

    def log_e(self, champion: Array, challenger: Array) -> Array:
        """The logarithm of the e-value after each seed, (..., n)."""
        pairs = log_e(challenger - champion)
        return np.maximum(log_rank_e(champion, challenger), pairs) - math.log(2) if self == RANKS else pairs

    def fewest(self, needed: float) -> int:
        """The fewest seeds after which the e-value can be ``needed``: if every gain is a large one."""
        best = self.log_e(np.zeros(MOST), np.logspace(0, MOST / 2, MOST))
        return int(np.searchsorted(best, math.log(needed) - 1e-9)) + 1

    def look(self, champion: Array, challenger: Array, needed: Array | float, at_least: int, most: int) -> Look:
        """Acceptance and hopelessness after each seed. needed: the e-value to reach, (...). at_least, most: seeds.

        It is hopeless if the rest up to ``most``, at the growth of an effect HOPE standard errors larger than observed,
        would not be enough. Every rule for stopping early is valid.
        """
        gains = challenger - champion
        seeds, log_needed = np.arange(1, gains.shape[-1] + 1), np.log(np.asarray(needed))[..., None]
        mean = gains.cumsum(-1) / seeds
        variance = np.maximum((gains**2).cumsum(-1) / seeds - mean**2, 0) * seeds / np.maximum(seeds - 1, 1)
        effect = np.divide(mean, np.sqrt(variance), out=np.sign(mean) * EFFECTS[-1], where=variance > 0)
        growth = np.interp(effect + HOPE / np.sqrt(seeds), EFFECTS, _growth(self.name), left=0)
        growth = np.where((gains != 0).cumsum(-1) > 0, growth, 0)  # the same images on every seed
        log = self.log_e(champion, challenger)
        hopeless = (seeds >= FIRST) & (log + (most - seeds) * growth < log_needed)
        return Look((seeds >= at_least) & (log >= log_needed), hopeless)

    def seeds_needed(self, effect: float, needed: float, most: int) -> int | None:
        """How many seeds half of all attempts would need for the e-value ``needed``, at a normal effect in standard
        deviations of the gains; None if more than ``most``."""
        both, champion, challenger = np.random.default_rng(0).standard_normal((3, SIMULATED, most)) * 0.5**0.5
        both *= (ALIKE / (1 - ALIKE)) ** 0.5
        log = self.log_e(both + champion, both + challenger + effect)
        reached = (np.maximum.accumulate(log, axis=1) >= math.log(needed)).mean(0) >= 0.5
        return int(reached.argmax()) + 1 if reached.any() else None

    def interval(self, champion: Array, challenger: Array, error: float) -> tuple[float, float]:
        """The interval of the effect, of n scores each: the values between which no e-value, of either direction,
        reaches 2 / error. It holds at any stop with a chance of 1 - error; infinite where the seeds are too few."""
        limits = np.concatenate([-np.geomspace(1e2, 1e-3, LIMITS), [0], np.geomspace(1e-3, 1e2, LIMITS)])
        gains = challenger - champion
        spread = float(gains.std()) or float(np.abs(gains).max()) or 1.0
        values = gains.mean() + spread * limits
        without, champion = challenger - values[:, None], np.broadcast_to(champion, (len(values), len(gains)))
        is_above = self.log_e(champion, without)[:, -1] >= math.log(2 / error)
        is_below = self.log_e(without, champion)[:, -1] >= math.log(2 / error)
        low, high = int(is_above.argmin()) - 1, len(values) - int(is_below[::-1].argmin())
        return (float(values[low]) if low >= 0 else -math.inf, float(values[high]) if high < len(values) else math.inf)


def log_rank_e(champion: Array, challenger: Array) -> Array:
    """The logarithm of the ranks' e-value after each seed: (..., n) each -> (..., n). Of equal scores the champion's
    counts as better."""
    logs = []
    for n in range(1, champion.shape[-1] + 1):
        runs = np.concatenate([challenger[..., :n], champion[..., :n]], -1)
        y = (runs.argsort(-1, kind="stable") < n).cumsum(-1)[..., None]
        i = np.arange(1, 2 * n + 1)[:, None]
        log = n * np.log(HAZARDS) - np.log(1 + (HAZARDS - 1) * (y / i)).sum(-2)  # (x + h y) / i
        logs.append(np.logaddexp.reduce(log, -1) - math.log(len(HAZARDS)))
    return np.stack(logs, -1)


def collapses(gains: Array) -> Truth:
    """Whether the worst loss exceeds the sum of the gains, after each seed: (..., n) -> (..., n)."""
    return np.asarray(np.maximum.accumulate(-gains, -1) > np.maximum(gains, 0).cumsum(-1))


@cache
def _growth(name: str) -> Array:
    """The mean growth of ``log_e`` with a seed for each of EFFECTS, by Gauss-Hermite quadrature: normal runs, for pairs
    of known scale; for ranks so many that x / n and y / n are the shares of each side's runs that are no better, and
    the best of HAZARDS."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(61)
    if name == PAIRS.name:
        z = (EFFECTS[:, None] + nodes) / np.sqrt(1 + EFFECTS[:, None] ** 2)
        return np.asarray(_log_factor(z) @ (weights / weights.sum()))
    shift = (2 * (1 - ALIKE)) ** 0.5 * EFFECTS[:, None, None]  # in standard deviations of a side
    logs = [np.log(ndtr(runs) + HAZARDS * ndtr(runs - shift)) for runs in (nodes[:, None], nodes[:, None] + shift)]
    return np.asarray((np.log(4 * HAZARDS) - 2 - np.einsum("sent,n->et", logs, weights / weights.sum())).max(-1))


PAIRS, RANKS = Evidence("pairs"), Evidence("ranks")
