"""Squared error of x_0 weighted by min(SNR, gamma). Min-SNR, Hang et al. 2023 (arXiv:2303.09556)."""

from collections.abc import Iterator

from pydantic import NonNegativeFloat, PositiveFloat

from ddpm.base.tensor import Tensor
from ddpm.diffusion.loss import SNRWeighted
from ddpm.diffusion.parameterization import Parameterization
from ddpm.diffusion.schedule import Schedule


class MinSNR(SNRWeighted):
    """For epsilon the weight is min(1, gamma / SNR), and for v min(SNR, gamma) / (SNR + 1).

    offset: added to SNR, for v alone. With 1 its weight is min(SNR + 1, gamma) / (SNR + 1), so that pure noise keeps a
    weight, as some trainers have it. Epsilon's weight at t = T would be offset / SNR, 4e8 on a cosine chain.
    """

    gamma: PositiveFloat = 5.0
    offset: NonNegativeFloat = 0.0

    def refusals(self, schedule: Schedule, T: int, target: Parameterization) -> Iterator[str]:
        if self.offset == 0:
            yield from (f"{reason}, or an offset with v" for reason in super().refusals(schedule, T, target))
        elif target.name != "v":
            yield (
                f"loss.min_snr.offset: {self.offset:g} is for parameterization: v, not {target.name}; "
                "allowed: 0, or parameterization: v"
            )

    def weight(self, snr: Tensor) -> Tensor:
        return (snr + self.offset).clamp(max=self.gamma)
