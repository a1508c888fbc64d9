"""Squared error of epsilon weighted by sigmoid(bias - log SNR), the same integral over log SNR under every schedule.
Kingma & Gao 2023 (arXiv:2303.00848); SiD2, Hoogeboom et al. 2024 (arXiv:2410.19324)."""

import math
from typing import Annotated

from pydantic import Field

from ddpm.base.tensor import Tensor
from ddpm.diffusion.loss import Estimate, Loss


class SigmoidLoss(Loss):
    """On x_0 the weight is SNR gamma / (SNR + gamma), gamma = exp(bias), times -d log SNR / d(t / T). Without that
    factor the schedule would be part of the objective; with it, the schedule only decides how noisy the estimate is.

    A step stands for the log SNR from the previous step's, which is infinite before the first, down to its own: its
    weight is the integral of sigmoid(bias - log SNR) sigmoid(log SNR) over them. The second factor makes v's squared
    error epsilon's, and v's hardly changes within even a long step.
    """

    bias: Annotated[float, Field(ge=-20, le=20)] = 2.0

    def measure(self, estimate: Estimate) -> Tensor:
        at = estimate.noisy.at
        noise_prev = (at.sigma_prev / at.signal_prev).square()  # 1 / SNR of the previous step
        # the antiderivative is log((SNR + 1) / (SNR exp(-bias) + 1)) / slope; its difference, without subtracting
        slope = -math.expm1(-self.bias)
        change = at.log_beta.exp() / (math.exp(-self.bias) + noise_prev)
        integral = (slope * change).log1p() / slope if slope else change
        return len(estimate.network.chain) * integral.flatten() * estimate.squared_error("v")
