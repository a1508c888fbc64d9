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
