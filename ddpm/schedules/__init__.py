"""Noise schedules: how much of the image is left at each of the T steps.

Contract: a variant gives ``betas(T)``, the forward process' variances beta_1..beta_T in float64 (equation 1 of
Ho et al. 2020, arXiv:2006.11239). ``NoiseSchedule`` is the immutable value that everything else reads.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ddpm.variants import Variant

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """The chain's constants in float64, in the paper's notation.

    t runs over 1..T; arrays are indexed t - 1. A respaced schedule is another NoiseSchedule over fewer steps whose
    ``timesteps`` name the steps of the training chain that it visits.

    alpha_bar: (S,) product of alpha up to each step, strictly decreasing in (0, 1).
    timesteps: (S,) int64, the training chain's t at each step, ascending; 1..T for a whole chain.
    """

    alpha_bar: Array
    timesteps: NDArray[np.int64]

    @classmethod
    def from_betas(cls, betas: Array) -> NoiseSchedule:
        """Raises ValueError unless every beta lies in (0, 1]."""
        if not (np.all(betas > 0) and np.all(betas <= 1)):
            raise ValueError("every beta must lie in (0, 1]")
        alpha_bar: Array = np.cumprod(1.0 - np.asarray(betas, dtype=np.float64), dtype=np.float64)
        return cls(alpha_bar, np.arange(1, len(betas) + 1))

    def __len__(self) -> int:
        return len(self.alpha_bar)

    @cached_property
    def alpha_bar_prev(self) -> Array:
        """alpha_bar of the step before; 1 before the first."""
        return np.concatenate([[1.0], self.alpha_bar[:-1]])

    @cached_property
    def alpha(self) -> Array:
        return self.alpha_bar / self.alpha_bar_prev

    @cached_property
    def beta(self) -> Array:
        return 1.0 - self.alpha

    @cached_property
    def beta_tilde(self) -> Array:
        """Variance of the posterior q(x_{t-1} | x_t, x_0), equation 7; 0 at the first step."""
        return (1.0 - self.alpha_bar_prev) / (1.0 - self.alpha_bar) * self.beta

    @cached_property
    def log_snr(self) -> Array:
        """log(alpha_bar / (1 - alpha_bar)); -inf where alpha_bar is 0."""
        with np.errstate(divide="ignore"):
            return np.log(self.alpha_bar) - np.log1p(-self.alpha_bar)

    def respace(self, timesteps: NDArray[np.int64]) -> NoiseSchedule:
        """The chain that visits only ``timesteps`` (ascending, in 1..T): its alpha_bar are this chain's there.

        Improved DDPM (arXiv:2102.09672), equation 19.
        """
        return NoiseSchedule(self.alpha_bar[timesteps - 1], self.timesteps[timesteps - 1])


class Schedule(Variant, ABC):
    """Contract of a noise schedule."""

    @abstractmethod
    def betas(self, T: int) -> Array:
        """(T,) float64, each in (0, 1]."""

    def noise_schedule(self, T: int) -> NoiseSchedule:
        return NoiseSchedule.from_betas(self.betas(T))
