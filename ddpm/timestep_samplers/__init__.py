"""How t is drawn in training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from ddpm.variants import Variant

if TYPE_CHECKING:
    from torch import Tensor


class TimestepSampler(Variant, ABC):
    """Contract of a timestep sampler."""

    @abstractmethod
    def draw(self, uniform: Tensor, T: int) -> Tensor:
        """(B,) int64 timesteps in 1..T from ``uniform``, (B,) independent draws in [0, 1)."""
