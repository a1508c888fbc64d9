"""Noise schedules: how much of the image is left at each of the T steps.

Contract: a variant gives ``betas(T)``, the variances beta_1..beta_T of the forward process in float64 (equation 1 of
Ho et al. 2020, arXiv:2006.11239). ``NoiseSchedule`` is the immutable value that everything else reads. ``betas_of``
helps schedules that are defined by their alpha_bar.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ddpm.base.variant import Variant

Array = NDArray[np.float64]
Beta = Annotated[float, Field(gt=0, lt=1)]
MAX_BETA = 0.999  # leaves some signal at t = T: Improved DDPM (arXiv:2102.09672), section 3.2


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """The chain's constants in float64, in the paper's notation.

    t runs over 1..T; arrays are indexed by t - 1. A respaced schedule is another NoiseSchedule with fewer steps;
    ``timesteps`` gives the steps of the training chain that it visits.

    log_snr: (S,) log(alpha_bar / (1 - alpha_bar)), strictly decreasing; -inf at a last step without signal. Both
        alpha_bar and 1 - alpha_bar follow from it to full precision, which alpha_bar near 1 could not give.
    timesteps: (S,) int64, the training chain's t at each step, ascending; 1..T for a whole chain.
    """

    log_snr: Array
    timesteps: NDArray[np.int64]

    @classmethod
    def from_betas(cls, betas: Array) -> NoiseSchedule:
        """Raises ValueError unless every beta is in (0, 1] and makes a difference in float64."""
        if not (np.all(betas > 0) and np.all(betas <= 1)):
            raise ValueError("every beta must lie in (0, 1]")
        with np.errstate(divide="ignore", invalid="ignore"):
            log_alpha_bar = np.cumsum(np.log1p(-np.asarray(betas, dtype=np.float64)))
            log_snr = log_alpha_bar - np.log(-np.expm1(log_alpha_bar))
            falls = np.diff(log_snr) < 0
        if not falls.all():
            raise ValueError(f"every beta must lower the signal: beta_{int(np.argmin(falls)) + 2} does not")
        return cls(log_snr, np.arange(1, len(betas) + 1))

    def __len__(self) -> int:
        return len(self.log_snr)

    @cached_property
    def _log_snr_prev(self) -> Array:
        return np.concatenate([[np.inf], self.log_snr[:-1]])

    @cached_property
    def alpha_bar(self) -> Array:
        """The product of alpha up to each step, strictly decreasing in (0, 1); 0 at a last step without signal."""
        return np.exp(_log_sigmoid(self.log_snr))

    @cached_property
    def alpha_bar_prev(self) -> Array:
        """alpha_bar of the previous step; 1 at the first step."""
        return np.exp(_log_sigmoid(self._log_snr_prev))

    @cached_property
    def one_minus_alpha_bar(self) -> Array:
        return np.exp(_log_sigmoid(-self.log_snr))

    @cached_property
    def one_minus_alpha_bar_prev(self) -> Array:
        return np.exp(_log_sigmoid(-self._log_snr_prev))

    @cached_property
    def _log_alpha(self) -> Array:
        return _log_sigmoid(self.log_snr) - _log_sigmoid(self._log_snr_prev)

    @cached_property
    def alpha(self) -> Array:
        return np.exp(self._log_alpha)

    @cached_property
    def beta(self) -> Array:
        return -np.expm1(self._log_alpha)

    @cached_property
    def beta_tilde(self) -> Array:
        """Variance of the posterior q(x_{t-1} | x_t, x_0), equation 7; 0 at the first step."""
        return self.one_minus_alpha_bar_prev / self.one_minus_alpha_bar * self.beta

    def respace(self, timesteps: NDArray[np.int64]) -> NoiseSchedule:
        """The chain that visits only ``timesteps`` (ascending, in 1..T), with this chain's alpha_bar at each.

        Improved DDPM (arXiv:2102.09672), equation 19.
        """
        return NoiseSchedule(self.log_snr[timesteps - 1], self.timesteps[timesteps - 1])

    def shift(self, log_snr_shift: float) -> NoiseSchedule:
        """The chain whose SNR is exp(log_snr_shift) times this one's at every step."""
        return NoiseSchedule(self.log_snr + log_snr_shift, self.timesteps)

    def without_terminal_signal(self) -> NoiseSchedule:
        """The chain with sqrt(alpha_bar) shifted to 0 at the last step and rescaled to keep its first value.

        Lin et al. 2023 (arXiv:2305.08891), Algorithm 1. Raises ValueError for a chain of one step.
        """
        if len(self) == 1:
            raise ValueError("zero_terminal_snr needs a chain of at least 2 steps")
        log_signal = _log_sigmoid(self.log_snr) / 2
        signal, lost = np.exp(log_signal), -np.expm1(log_signal)  # s and 1 - s, each to full precision
        first, last = signal[0], signal[-1]
        lost = (first * lost - last * lost[0]) / (first - last)
        signal = (signal - last) * first / (first - last)
        with np.errstate(divide="ignore"):
            return NoiseSchedule(2 * np.log(signal) - np.log(lost * (2 - lost)), self.timesteps)


def _log_sigmoid(x: Array) -> Array:
    return -np.logaddexp(0.0, -x)


class Schedule(Variant, ABC):
    """Contract of a noise schedule.

    ``log_snr_shift`` adapts a schedule to another resolution: 2 log(64 / d) for images of d x d pixels and a schedule
    made for 64 x 64 (Hoogeboom et al. 2023, arXiv:2301.11093); an input scale b (Chen 2023, arXiv:2301.10972) is
    2 log(b). ``zero_terminal_snr`` removes all signal at t = T and is applied last (Lin et al. 2023, arXiv:2305.08891,
    Algorithm 1).
    """

    log_snr_shift: Annotated[float, Field(ge=-20, le=20)] = 0.0
    zero_terminal_snr: bool = False

    @abstractmethod
    def betas(self, T: int) -> Array:
        """(T,) float64, each in (0, 1): the schedule before ``log_snr_shift`` and ``zero_terminal_snr``."""

    def noise_schedule(self, T: int) -> NoiseSchedule:
        """The chain of T steps. Raises ValueError when these fields cannot make one."""
        chain = NoiseSchedule.from_betas(self.betas(T)).shift(self.log_snr_shift)
        return chain.without_terminal_signal() if self.zero_terminal_snr else chain


def betas_of(alpha_bar: Array, max_beta: float) -> Array:
    """(T,) betas of a curve alpha_bar at t = 0..T, (T + 1,), at most ``max_beta``, because the curve may end at 0."""
    return np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], max_beta)
