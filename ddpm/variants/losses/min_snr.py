"""Squared error of x_0 weighted by min(SNR, gamma). Min-SNR, Hang et al. 2023 (arXiv:2303.09556)."""

from pydantic import PositiveFloat

from ddpm.base.tensor import Tensor
from ddpm.diffusion.loss import SNRWeighted


class MinSNR(SNRWeighted):
    """For epsilon the weight is min(1, gamma / SNR)."""

    gamma: PositiveFloat = 5.0

    def weight(self, snr: Tensor) -> Tensor:
        return snr.clamp(max=self.gamma)
