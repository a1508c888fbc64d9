"""logit(t / T) is normal: most draws are near the middle of the chain. Stable Diffusion 3, Esser et al. 2024
(arXiv:2403.03206), section 3.1."""

from statistics import NormalDist
from typing import Annotated

import numpy as np
from pydantic import Field

from ddpm.diffusion.schedule import Array, NoiseSchedule
from ddpm.training.timesteps import Fixed


class LogitNormal(Fixed):
    """Stable Diffusion 3's is ``unbiased``: false."""

    mean: Annotated[float, Field(ge=-10, le=10)] = 0.0
    std: Annotated[float, Field(ge=0.05, le=10)] = 1.0

    def mass(self, schedule: NoiseSchedule) -> Array:
        inner = np.arange(1, len(schedule)) / len(schedule)
        normal = NormalDist(self.mean, self.std)
        return np.diff([0.0, *map(normal.cdf, np.log(inner / (1 - inner)).tolist()), 1.0])
