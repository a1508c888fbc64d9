"""EDM's noise levels: sigma / signal, to the power of 1 / rho, grows linearly. Karras et al. 2022 (arXiv:2206.00364),
equation 5."""

from typing import Annotated

import numpy as np
from pydantic import Field

from ddpm.diffusion.schedule import Array, Schedule


class Karras(Schedule):
    """From ``sigma_min`` at t = 1 to ``sigma_max`` at t = T: the levels that EDM samples at. Those that it trains at
    follow its p(sigma), of which 1 in 1000 draws is above 12: as a schedule that would not reach ``sigma_max``."""

    sigma_min: Annotated[float, Field(ge=1e-4, le=1)] = 0.002
    sigma_max: Annotated[float, Field(gt=1, le=1e4)] = 80.0
    rho: Annotated[float, Field(ge=1, le=100)] = 7.0

    def betas(self, T: int) -> Array:
        roots = np.linspace(self.sigma_max ** (1 / self.rho), self.sigma_min ** (1 / self.rho), T)[::-1]
        variance = roots ** (2 * self.rho)  # alpha_bar = 1 / (1 + variance)
        return np.diff(variance, prepend=0.0) / (1 + variance)
