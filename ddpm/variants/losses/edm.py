"""Squared error of x_0 weighted by (sigma^2 + sigma_data^2) / (sigma sigma_data)^2. EDM, Karras et al. 2022
(arXiv:2206.00364), table 1."""

from typing import Annotated

from pydantic import Field

from ddpm.base.tensor import Tensor
from ddpm.diffusion.loss import SNRWeighted


class EDMLoss(SNRWeighted):
    """sigma^2 is 1 / SNR here, so the weight is SNR + 1 / sigma_data^2. ``sigma_data`` is the deviation of the data; at
    1 this is L_simple on v."""

    trains_zero_snr = True

    sigma_data: Annotated[float, Field(gt=0, le=100)] = 0.5

    def weight(self, snr: Tensor) -> Tensor:
        return snr + 1 / self.sigma_data**2
