"""Squared error of epsilon weighted by sigmoid(bias - log SNR), the same integral over log SNR under every schedule.
Kingma & Gao 2023 (arXiv:2303.00848); SiD2, Hoogeboom et al. 2024 (arXiv:2410.19324)."""

import math
from typing import Annotated

from pydantic import Field

from ddpm.base.tensor import Tensor
from ddpm.diffusion.loss import Denoised, Loss


class Sigmoid(Loss):
    """On x_0 it is ``soft_min_snr`` of gamma = exp(bias), times -d log SNR / d(t / T). Without that factor the schedule
    would be part of the objective; with it, the schedule only decides how noisy the estimate is."""

    trains_zero_snr = False

    bias: Annotated[float, Field(ge=-20, le=20)] = 2.0

    def __call__(self, denoised: Denoised) -> Tensor:
        at = denoised.at
        slope = denoised.T * at.log_beta.exp() / at.sigma.square()  # d log alpha_bar = -beta dt
        snr = (at.signal / at.sigma).square()
        weight = slope * snr / (1 + snr * math.exp(-self.bias)) * denoised.parameterization.x_0_scale(at)
        return weight.flatten() * denoised.squared_error()
