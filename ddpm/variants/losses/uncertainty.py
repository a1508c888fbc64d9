"""The loss ``edm``, divided by a scale that is learned for each noise level, so that all levels count alike. EDM2,
Karras et al. 2023 (arXiv:2312.02696), equations 14 and 21."""

from typing import Annotated

from pydantic import Field

from ddpm.base.tensor import Module, Tensor
from ddpm.diffusion.loss import SNRWeighted


class Uncertainty(SNRWeighted):
    """It starts as ``edm``; at the best u, exp(u) is ``edm``'s mean loss at that noise level. The loss that is reported
    includes u, so it may be negative."""

    trains_zero_snr = True

    sigma_data: Annotated[float, Field(gt=0, le=100)] = 0.5

    def weight(self, snr: Tensor) -> Tensor:
        """lambda of table 1 of EDM (arXiv:2206.00364)."""
        return snr + 1 / self.sigma_data**2

    def log_variance(self) -> Module:
        from ddpm.diffusion.log_variance import LogVariance

        return LogVariance()
