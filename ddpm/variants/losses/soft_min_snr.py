"""Squared error of x_0 weighted by SNR gamma / (SNR + gamma), a smooth min(SNR, gamma). Crowson et al. 2024
(arXiv:2401.11605)."""

from pydantic import PositiveFloat

from ddpm.base.tensor import Tensor
from ddpm.diffusion.loss import SNRWeighted


class SoftMinSNR(SNRWeighted):
    """Half of ``min_snr``'s weight where SNR = gamma, and the same far from there. k-diffusion's ``soft-min-snr`` has
    gamma = 1 / sigma_data^2, which is 4 by default."""

    gamma: PositiveFloat = 4.0

    def weight(self, snr: Tensor) -> Tensor:
        return snr * self.gamma / (snr + self.gamma)
