"""How t is drawn in training.

Contract: ``draw`` turns uniform numbers into timesteps and the weights that keep the loss unbiased. Variants are
immutable: a sampler that learns from the losses keeps what it knows in ``state``'s tensors, which checkpoints include.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np

from ddpm.base.sections import Fraction
from ddpm.base.tensor import Device, Tensor
from ddpm.base.variant import Variant
from ddpm.diffusion.schedule import Array, NoiseSchedule

SHARES = 2**40  # integers have exact sums, which are the same on every device and in any order


def draw_by_shares(shares: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """``TimestepSampler.draw`` of each t in proportion to its share: (T,) int64, above 0, SHARES in all but for
    rounding."""
    import torch

    T, ends = len(shares), shares.cumsum(0)
    index = torch.searchsorted(ends, (uniform * ends[-1]).long(), right=True).clamp(max=T - 1)
    return index + 1, (ends[-1] / (T * shares[index])).float()


class TimestepSampler(Variant, ABC):
    """Contract of a timestep sampler."""

    by_loss: ClassVar[bool] = False
    """Whether it draws t by the size of its losses, which must not be negative."""

    def state(self, schedule: NoiseSchedule, device: Device) -> dict[str, Tensor]:
        """Its memory before the first step; empty for a sampler without any."""
        return {}

    @abstractmethod
    def draw(self, uniform: Tensor, T: int, state: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """(B,) int64 timesteps in 1..T and their (B,) float32 weights, from (B,) independent draws in [0, 1).

        The mean of weight * loss estimates the mean loss over uniform t, unless the variant says otherwise.
        """

    def update(self, state: dict[str, Tensor], t: Tensor, losses: Tensor) -> None:
        """Learn from the unweighted (B,) ``losses`` at ``t``, by changing ``state``'s tensors in place."""


class Fixed(TimestepSampler):
    """A density that no loss changes.

    ``uniform_share`` of the draws are uniform over t: no weight exceeds 1 / uniform_share. Without ``unbiased`` there
    are no weights, as in the papers: then the density is part of the objective, the mean loss over its own t.
    """

    uniform_share: Fraction = 0.1
    unbiased: bool = True

    @abstractmethod
    def mass(self, schedule: NoiseSchedule) -> Array:
        """(T,) float64: the probability of each t, up to a factor, without the uniform share."""

    def state(self, schedule: NoiseSchedule, device: Device) -> dict[str, Tensor]:
        """shares: (T,) int64, in proportion to the probability of each t. Made by the CPU, for all devices alike."""
        import torch

        mass = self.mass(schedule)
        p = (1 - self.uniform_share) * mass / mass.sum() + self.uniform_share / len(schedule)
        return {"shares": torch.from_numpy((p * SHARES).astype(np.int64)).to(device)}

    def draw(self, uniform: Tensor, T: int, state: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        t, weight = draw_by_shares(state["shares"], uniform)
        return t, weight if self.unbiased else weight.new_ones(weight.shape)
