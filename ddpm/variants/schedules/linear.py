"""beta grows linearly. Ho et al. 2020 (arXiv:2006.11239), section 4."""

import numpy as np

from ddpm.diffusion.schedule import MAX_BETA, Array, Beta, Schedule


class Linear(Schedule):
    """The ends are given for T = 1000 and scaled by 1000 / T, so that chains of any length end with the same noise."""

    beta_start: Beta = 1e-4
    beta_end: Beta = 0.02

    def betas(self, T: int) -> Array:
        return np.minimum(1000 / T * np.linspace(self.beta_start, self.beta_end, T), MAX_BETA)
