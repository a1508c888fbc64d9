"""Tests of paired differences at several looks: the looks that a plan names, and no others.

The error rate is spent look by look (Lan & DeMets 1983). The bounds are exact for the paired t statistic of normal
differences at any number of seeds; a normal approximation would inflate the rate at so few (Rom & McTague 2020). The p
of a look is the smallest error rate at which that look would reject. The smallest of all looks so far is the sequential
p value (Liu & Anderson 2008); that of one look alone is never smaller, so it is as valid, and can be adjusted for a
family of tests like any other p value.

Bounds are simulated backwards. With no effect, the direction of the vector of differences is uniform whatever its
length. So it is drawn given the last look's t, which runs evenly over the tail, and the earlier looks' t follow from
it. That makes small error rates as precise as large ones, with few draws.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from ddpm.verdicts.statistics import Array, t_test

DRAWS = 2**15  # per design of up to five looks; its bounds are then off by less than 1% of the error rate
LEVELS = np.geomspace(1e-6, 0.5, 24)  # error rates at which bounds are simulated; others are interpolated
TINY = 1e-49  # for smaller p, quantiles are nan
TAILS = np.geomspace(1e-9, 1, 512)  # p of the t quantiles from which draws are interpolated
FREE = 20  # seeds with a sign of their own in the sign-flip test; any more share that of an earlier one
FUTURES = 2000  # simulated continuations of a study
POWERS = 2**14  # simulated studies


@dataclass(frozen=True)
class Design:
    """The looks of a study, or the only one of a comparison."""

    looks: tuple[int, ...]  # rising numbers of seeds; the last one ends the study

    def budget(self, level: float | Array) -> Array:
        """The part of the error rates that may be spent up to each look, nearly as by Pocock: (...) -> (..., looks)."""
        shares = np.log1p((math.e - 1) * np.array(self.looks) / self.looks[-1])
        return np.asarray(level, np.float64)[..., None] * shares

    def sign_budget(self, level: float) -> Array:
        """The part of the error rate that the sign-flip test may spend up to each look: (looks,).

        A first look at few seeds, such as six, gets what their most extreme pattern needs, if the error rate allows
        that; later looks share the rest as they do for the t test.
        """
        spent, pattern = self.budget(level), 2.0 ** (1 - self.looks[0])
        if spent[0] < pattern <= level:
            spent = pattern + (level - pattern) * (spent - spent[0]) / (spent[-1] - spent[0])
        return spent

    def nominal(self, level: float) -> Array:
        """The two-sided p of the t test at or below which each look rejects, (looks,), at that error rate."""
        table = np.log(_nominals(self))
        return np.exp([np.interp(np.log(level), np.log(LEVELS), column) for column in table.T])

    def bounds(self, level: float) -> Array:
        """The |t| at or above which each look rejects, (looks,)."""
        return -stdtrit(np.array(self.looks) - 1, self.nominal(level) / 2)

    def p(self, place: int, nominal: Array) -> Array:
        """The two-sided p of a look, (...) like ``nominal``, which is the t test's two-sided p there. It is at least
        the smallest of LEVELS, and 1 beyond the largest. place: index of the look."""
        nominals = np.log(_nominals(self)[:, place])
        return np.exp(np.interp(np.log(np.maximum(nominal, TINY)), nominals, np.log(LEVELS), right=0.0))

    def sign_flips(self, differences: Array, level: float) -> list[int]:
        """The looks, in seeds, at which the sign-flip test rejects, of those up to now.

        differences: (n,), of which the looks up to n are used. Given the sizes, all patterns of signs are equally
        likely if nothing differs, and so are those in which two seeds have the same sign. Each look spends its part of
        the error rate on the most extreme patterns that no earlier look rejected; the least extreme of these is its
        bound, beyond which a pattern is rejected there, whether or not it was before. So the chance that any look
        rejects is the error rate.
        """
        rejecting, past = [], 1
        sums, is_open = differences[:1], np.ones(1, bool)  # of each pattern; without mirror images
        rounding = 1e-12 * np.abs(differences).sum()
        for look, spent in zip(self.looks, self.sign_budget(level), strict=True):
            if look > len(differences):
                break
            for place in range(1, min(look, FREE)):  # later seeds that share its sign are one gap with it
                gap = sum(differences[seed] for seed in range(place, look, FREE - 1) if seed >= past)
                if place >= past:  # the observed pattern stays the first
                    sums, is_open = np.concatenate([sums + gap, sums - gap]), np.concatenate([is_open, is_open])
                else:
                    by_sign = sums.reshape(-1, 2, 2 ** (place - 1))
                    by_sign += np.array([[gap], [-gap]])
            past = look
            budget = math.floor(spent * len(sums) + 1e-9) - int((~is_open).sum())
            sizes = np.where(is_open, np.abs(sums), -1.0)
            if budget > 0:
                last_out = np.partition(sizes, -budget - 1)[-budget - 1] if budget < is_open.sum() else -0.5
                if abs(sums[0]) > last_out + rounding:
                    rejecting.append(look)
                is_open &= sizes <= last_out + rounding
        return rejecting

    def chance(self, level: float, differences: Array, effect: float, sd: float, margin: float) -> float:
        """The chance that the last look rejects "no difference" or a gap as large as ``margin``, given the (n,)
        differences so far.

        The remaining ones are drawn as normal, with mean ``effect`` and that sd. The sign-flip test and the looks
        between are left out.
        """
        n, last = len(differences), self.looks[-1]
        rest = effect + sd * np.random.default_rng(0).standard_normal((FUTURES, last - n))
        test = t_test(np.concatenate([np.broadcast_to(differences, (FUTURES, n)), rest], axis=1), margin, 0.5)
        differs = (test.p <= self.nominal(level)[-1]) & (np.abs(test.mean) > margin)
        excluded = 2 * test.equivalence_p <= self.nominal(2 * level)[-1]
        return float((differs | excluded).mean())

    def power(self, level: float, effect: float) -> Array:
        """The chance of rejecting by each look, (looks,), for an effect in standard deviations of the differences.

        By the t test alone. The sign-flip test agrees nearly always from 1 sd on; at half an sd it lowers the chance
        by up to .06.
        """
        means, errors = _draw_moments(self)
        return np.logical_or.accumulate(np.abs(means + effect) >= self.bounds(level) * errors, axis=1).mean(0)


@cache
def _draw_moments(design: Design) -> tuple[Array, Array]:
    """The means, and their standard errors, of the normal differences up to each look: (POWERS, looks) each."""
    looks = np.array(design.looks)
    drawn = np.random.default_rng(1).standard_normal((POWERS, looks[-1]))
    means, squares = drawn.cumsum(1)[:, looks - 1] / looks, (drawn**2).cumsum(1)[:, looks - 1]
    return means, np.sqrt((squares / looks - means**2) / (looks - 1))


@cache
def _nominals(design: Design) -> Array:
    """``Design.nominal`` at each of LEVELS: (levels, looks)."""
    random = np.random.default_rng(0)
    draws = DRAWS // math.ceil(len(design.looks) / 5)
    spent = design.budget(LEVELS)
    nominals = spent.copy()
    for k, n in enumerate(design.looks[1:], 1):
        earlier = np.array(design.looks[:k])
        # of the differences from their mean, (draws, n): each has mean 0 and length 1
        directions = random.standard_normal((draws, n))
        directions -= directions.mean(1, keepdims=True)
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        sums, squares = (values.cumsum(1)[:, earlier - 1] for values in (directions, directions**2))
        tails = -stdtrit(n - 1, TAILS / 2)
        for row, (before, now) in enumerate(spent[:, k - 1 : k + 1]):
            # what this look rejects lies in the tail that holds everything spent up to it
            p = now * (np.arange(draws) + 0.5) / draws
            t = np.interp(np.log(p), np.log(TAILS), tails)
            limits = stdtrit(earlier - 1, nominals[row, :k] / 2)
            rejected = np.cumsum(~_stops_before(t, n, earlier, sums, squares, limits)) * now / draws
            last = min(int(np.searchsorted(rejected, now - before)), draws - 1)
            nominals[row, k] = now * (last + 1) / draws
    return nominals


def _stops_before(t: Array, n: int, earlier: Array, sums: Array, squares: Array, limits: Array) -> NDArray[np.bool_]:
    """Whether a study whose last look has that t, (draws,), at n seeds, stops at one of the ``earlier`` looks, (k,).

    sums, squares: (draws, k) of its direction's first parts and their squares. limits: (k,) the |t| of each look.
    """
    # a vector of length 1 with that t: its mean, and the length of what is left of it
    share = t**2 / (t**2 + n - 1)
    mean, rest = np.sqrt(share / n)[:, None], np.sqrt(1 - share)[:, None]
    means = mean + rest * sums / earlier
    lengths = earlier * mean**2 + 2 * mean * rest * sums + rest**2 * squares
    # t >= limit, without a division: t^2 = (n - 1) n m^2 / (Q - n m^2)
    explained = earlier * means**2
    stops: NDArray[np.bool_] = ((earlier - 1) * explained >= limits**2 * (lengths - explained)).any(1)
    return stops
