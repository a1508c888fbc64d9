"""The straight line of rectified flow, (1 - s) x_0 + s epsilon with s = t / T, scaled to unit variance. Liu et al. 2022
(arXiv:2209.03003)."""

import numpy as np

from ddpm.diffusion.schedule import MAX_BETA, Array, Beta, Schedule, betas_of


class RectifiedFlow(Schedule):
    """sigma / signal = s / (1 - s): no signal is left at t = T, where ``max_beta`` keeps some. A ``log_snr_shift`` of
    -2 log(a) is the timestep shift a of Stable Diffusion 3 (Esser et al. 2024, arXiv:2403.03206, equation 23)."""

    max_beta: Beta = MAX_BETA

    def betas(self, T: int) -> Array:
        s = np.arange(T + 1) / T
        return betas_of((1 - s) ** 2 / ((1 - s) ** 2 + s**2), self.max_beta)
