"""Averages of the weights whose length is chosen after the training. EDM2, Karras et al. 2023 (arXiv:2312.02696),
section 3 and appendix C.

The average at step t weighs the weights of all steps up to t by the profile p(tau) = (gamma + 1) tau^gamma /
t^(gamma + 1) over 0 <= tau <= t. Its length is the profile's standard deviation as a share of t, the paper's sigma_rel.
Snapshots of averages of two lengths are kept, and any other average is the sum of them that comes closest to its
profile.
"""

import math
from collections.abc import Iterator
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ddpm.base.errors import UserError
from ddpm.base.sections import Section

Array = NDArray[np.float64]
Length = Annotated[float, Field(ge=0.005, le=0.288)]  # 0.288 is a plain mean, of gamma = 0
TOLERANCE = 0.015  # of a profile: the weights are then off by less than 1e-3, even if they change like a random walk
APART = 1.25  # nearer lengths give snapshots that are nearly the same, and sums of them that are all rounding


def exponent(length: float) -> float:
    """gamma >= 0 of an average of that length: length^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3))."""
    inverse = length**-2
    return float(np.roots([1, 7, 16 - inverse, 12 - inverse]).real.max())


def decay(gamma: float, step: int) -> float:
    """The share of the average that survives update ``step`` (1, 2, ...)."""
    return float((1 - 1 / step) ** (gamma + 1))


class Posthoc(Section):
    """``train.posthoc``: averages of two ``lengths``, both kept at ``snapshots`` evenly spread steps up to the last."""

    lengths: tuple[Length, Length] = (0.05, 0.10)
    snapshots: Annotated[int, Field(ge=4, le=256)] = 16

    def refusals(self) -> Iterator[str]:
        low, high = self.lengths
        if high < APART * low:
            yield f"lengths: [{low:g}, {high:g}]: the second must be at least {APART} times the first"

    def steps(self, total: int) -> list[int]:
        """The steps of the snapshots in a training of ``total`` steps: every step if these are fewer."""
        return sorted({math.ceil(total * number / self.snapshots) for number in range(1, self.snapshots + 1)})

    def weights(self, length: float, total: int) -> Array:
        """(2, len(steps)), summing to 1: what to multiply the snapshots of each average with, for their sum to be the
        average of ``length`` at the end of ``total`` steps. Appendix C.3.

        The least-squares weights sum to 0.998 to 1.002; like the authors' code, this divides them by their sum, so that
        a weight that training leaves alone is the same in every average.

        Raises UserError if the norm of the error of the sum's profile is more than TOLERANCE of the profile's own.
        """
        steps = np.array(self.steps(total))
        t = np.tile(steps / total, 2)
        gamma = np.repeat([exponent(own) for own in self.lengths], len(steps))
        end, wanted = np.ones(1), np.array([exponent(length)])
        products = _product(t, gamma, end, wanted)
        solved = np.linalg.solve(_product(t[:, None], gamma[:, None], t, gamma), products)
        weights: Array = np.asarray(solved, np.float64)
        if 1 - weights @ products / _product(end, wanted, end, wanted) > TOLERANCE**2:
            raise UserError(
                f"an average of length {length:g} cannot be computed from {len(steps)} snapshots of averages of "
                f"lengths {self.lengths[0]:g} and {self.lengths[1]:g}; allowed: a length nearer to these, or a "
                "training with more snapshots"
            )
        return (weights / weights.sum()).reshape(2, -1)


def _product(t_a: Array, gamma_a: Array, t_b: Array, gamma_b: Array) -> Array:
    """The integral of the product of two profiles, for averages at t_a and t_b."""
    shorter = np.where(t_a < t_b, gamma_b, gamma_a)
    ratio = np.minimum(t_a, t_b) / np.maximum(t_a, t_b)
    both: Array = (gamma_a + 1) * (gamma_b + 1) * ratio**shorter / ((gamma_a + gamma_b + 1) * np.maximum(t_a, t_b))
    return both
