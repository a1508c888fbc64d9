"""t / T follows a Laplace distribution, cut to the chain: draws pile up at one t, with long tails. Hang et al. 2024
(arXiv:2407.03297) put it over log SNR; over t is our own."""

from typing import Annotated

import numpy as np
from pydantic import Field

from ddpm.base.sections import Share
from ddpm.diffusion.schedule import Array, NoiseSchedule
from ddpm.training.timesteps import Fixed


class LaplaceTimesteps(Fixed):
    """Most draws are near t / T = ``mu``, and more so for smaller ``b``."""

    mu: Share = 0.5
    b: Annotated[float, Field(ge=0.01, le=10)] = 0.2

    def mass(self, schedule: NoiseSchedule) -> Array:
        offset = (np.arange(len(schedule) + 1) / len(schedule) - self.mu) / self.b
        mass: Array = np.diff(-np.sign(offset) * np.expm1(-np.abs(offset)))  # twice the distribution function, minus 1
        return mass
