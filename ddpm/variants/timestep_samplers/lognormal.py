"""log(sigma / signal) is normal, EDM's p(sigma), under any schedule. Karras et al. 2022 (arXiv:2206.00364), table 1 and
section 5."""

from statistics import NormalDist
from typing import Annotated

import numpy as np
from pydantic import Field

from ddpm.diffusion.schedule import Array, NoiseSchedule
from ddpm.training.timesteps import Fixed


class LogNormal(Fixed):
    """``mean`` and ``std`` are the paper's P_mean and P_std. Each t gets the mass that is nearer to its noise level
    than to any other's, so the chain's range of noise stays its own: p(sigma) says where draws are, not where sampling
    starts. EDM's is ``unbiased``: false."""

    mean: Annotated[float, Field(ge=-10, le=10)] = -1.2
    std: Annotated[float, Field(ge=0.05, le=10)] = 1.2

    def mass(self, schedule: NoiseSchedule) -> Array:
        log_sigma = -schedule.log_snr / 2
        edges = np.concatenate([[-np.inf], (log_sigma[1:] + log_sigma[:-1]) / 2, [np.inf]])
        return np.diff([NormalDist(self.mean, self.std).cdf(edge) for edge in edges])
