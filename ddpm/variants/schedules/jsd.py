"""beta_t = 1 / (T - t + 1): alpha_bar falls linearly. Sohl-Dickstein et al. 2015 (arXiv:1503.03585), section 2.4.1."""

import numpy as np

from ddpm.diffusion.schedule import MAX_BETA, Array, Beta, Schedule


class JSD(Schedule):
    """Each step removes an equal share of the signal; ``max_beta`` keeps some at t = T, where beta would be 1."""

    max_beta: Beta = MAX_BETA

    def betas(self, T: int) -> Array:
        return np.minimum(1 / np.arange(T, 0, -1), self.max_beta)
