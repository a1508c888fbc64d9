"""alpha_bar follows a squared cosine. Improved DDPM (arXiv:2102.09672), equation 17."""

import numpy as np

from ddpm.base.sections import BelowOne
from ddpm.diffusion.schedule import MAX_BETA, Array, Beta, Schedule, betas_of


class Cosine(Schedule):
    """``s`` keeps beta from vanishing near t = 0; ``max_beta`` limits it near t = T."""

    s: BelowOne = 0.008
    max_beta: Beta = MAX_BETA

    def betas(self, T: int) -> Array:
        f = np.cos((np.arange(T + 1) / T + self.s) / (1 + self.s) * np.pi / 2) ** 2
        return betas_of(f, self.max_beta)
