"""beta grows linearly. Ho et al. 2020 (arXiv:2006.11239), section 4."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from ddpm.schedules import Array, Schedule


class Linear(Schedule):
    """The ends are stated for T = 1000 and scaled by 1000 / T, so that chains of any length end in the same noise."""

    beta_start: Annotated[float, Field(gt=0, lt=1)] = 1e-4
    beta_end: Annotated[float, Field(gt=0, lt=1)] = 0.02

    def betas(self, T: int) -> Array:
        scale = 1000 / T
        return np.minimum(np.linspace(scale * self.beta_start, scale * self.beta_end, T), 0.999)
