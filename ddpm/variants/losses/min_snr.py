"""Squared error of x_0 weighted by min(SNR, gamma). Min-SNR, Hang et al. 2023 (arXiv:2303.09556)."""

from collections.abc import Iterator

from pydantic import NonNegativeFloat, PositiveFloat

from ddpm.base.tensor import Tensor
from ddpm.diffusion.loss import SNRWeighted
from ddpm.diffusion.schedule import Schedule


class MinSNR(SNRWeighted):
    """For epsilon the weight is min(1, gamma / SNR), and for v min(SNR, gamma) / (SNR + 1).

    offset: added to SNR. With 1 the weight of v is min(SNR + 1, gamma) / (SNR + 1), so that pure noise keeps a weight,
    as some trainers have it.
    """

    gamma: PositiveFloat = 5.0
    offset: NonNegativeFloat = 0.0

    def refusals(self, schedule: Schedule, T: int) -> Iterator[str]:
        yield from (f"{reason}, or an offset above 0" for reason in super().refusals(schedule, T) if self.offset == 0)

    def weight(self, snr: Tensor) -> Tensor:
        return (snr + self.offset).clamp(max=self.gamma)
