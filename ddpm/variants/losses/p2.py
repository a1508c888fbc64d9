"""Squared error of epsilon weighted by 1 / (k + SNR)^gamma. P2, Choi et al. 2022 (arXiv:2204.00227)."""

from pydantic import NonNegativeFloat, PositiveFloat

from ddpm.base.tensor import Tensor
from ddpm.diffusion.loss import SNRWeighted


class P2(SNRWeighted):
    """``gamma`` = 0 is L_simple on epsilon. The squared error of x_0 is that of epsilon divided by SNR."""

    k: PositiveFloat = 1.0
    gamma: NonNegativeFloat = 1.0

    def weight(self, snr: Tensor) -> Tensor:
        return snr / (self.k + snr) ** self.gamma
