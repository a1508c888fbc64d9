"""Which steps of the training chain sampling visits."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ddpm.diffusion.schedule import Array, NoiseSchedule
from ddpm.sampling.sample_params import Spacing

RHO = 7  # EDM's, section 3


def timesteps(schedule: NoiseSchedule, steps: int, spacing: Spacing) -> NDArray[np.int64]:
    """The steps of the training chain that sampling visits: (steps,), ascending, distinct, in 1..T, including T.

    The spacing's values are rounded; any that coincide are moved to the nearest free step.
    """
    T = len(schedule)
    visited = np.round(SPACINGS[spacing](schedule, steps)[::-1]).astype(np.int64)
    visited[-1] = T
    place = np.arange(steps)
    distinct = np.maximum.accumulate(visited - place) + place
    return np.minimum(distinct, T - place[::-1])


def uniform(schedule: NoiseSchedule, steps: int) -> Array:
    """Evenly from T to 1, both included. Improved DDPM (arXiv:2102.09672), section 4."""
    return np.linspace(len(schedule), 1, steps)


def trailing(schedule: NoiseSchedule, steps: int) -> Array:
    """Evenly back from T, without 1. Lin et al. 2023 (arXiv:2305.08891), table 2."""
    return len(schedule) * (1 - np.arange(steps) / steps)


def karras(schedule: NoiseSchedule, steps: int) -> Array:
    """Evenly in (sigma / signal)^(1/7), from its highest finite value: EDM's levels within the chain's own range.
    Karras et al. 2022 (arXiv:2206.00364), equation 5."""
    rising = schedule.log_snr[::-1]
    lowest = rising[np.isfinite(rising)].min(initial=rising[-1])
    roots = np.linspace(np.exp(-lowest / 2 / RHO), np.exp(-rising[-1] / 2 / RHO), steps)
    return np.interp(-2 * RHO * np.log(roots), rising, np.arange(len(schedule), 0, -1))


SPACINGS: dict[str, Callable[[NoiseSchedule, int], Array]] = {
    spacing.__name__: spacing for spacing in (uniform, trailing, karras)
}
