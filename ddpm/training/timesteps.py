"""How t is drawn in training.

Contract: ``draw`` turns uniform numbers into timesteps and the weights that keep the loss unbiased. Variants are
immutable: a sampler that learns from the losses keeps what it knows in ``state``'s tensors, which checkpoints include.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from ddpm.base.tensor import Tensor
from ddpm.base.variant import Variant

if TYPE_CHECKING:
    import torch


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

    def state(self, T: int, device: torch.device) -> dict[str, Tensor]:
        """What it knows before the first step; empty for a sampler without memory."""
        return {}

    @abstractmethod
    def draw(self, uniform: Tensor, T: int, state: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """(B,) int64 timesteps in 1..T and their (B,) float32 weights, from (B,) independent draws in [0, 1).

        The mean of weight * loss estimates the mean loss over uniform t.
        """

    def update(self, state: dict[str, Tensor], t: Tensor, losses: Tensor) -> None:
        """Learn from the unweighted (B,) ``losses`` at ``t``, by changing ``state``'s tensors in place."""
