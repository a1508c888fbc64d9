"""log-SNR follows a Laplace distribution's quantiles. Hang et al. 2024 (arXiv:2407.03297)."""

from typing import Annotated

import numpy as np
from pydantic import Field

from ddpm.diffusion.schedule import MAX_BETA, Array, Beta, Schedule, betas_of


class LaplaceSchedule(Schedule):
    """Most steps are near log-SNR ``mu``, and more so for smaller ``b``; ``max_beta`` limits beta at t = T."""

    mu: Annotated[float, Field(ge=-10, le=10)] = 0.0
    b: Annotated[float, Field(gt=0, le=10)] = 0.5
    max_beta: Beta = MAX_BETA

    def betas(self, T: int) -> Array:
        t = np.arange(T + 1) / T
        with np.errstate(divide="ignore"):  # log-SNR is inf at t = 0 and -inf at t = 1
            log_snr = self.mu - self.b * np.sign(0.5 - t) * np.log(1 - 2 * np.abs(t - 0.5))
        return betas_of(1 / (1 + np.exp(-log_snr)), self.max_beta)
