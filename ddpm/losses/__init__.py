"""Training objectives.

Contract: called with the network's output and its target, a variant gives each image's loss.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from ddpm.variants import Variant

if TYPE_CHECKING:
    from torch import Tensor

    from ddpm.diffusion import Coefficients


class Loss(Variant, ABC):
    """Contract of an objective."""

    @abstractmethod
    def __call__(self, output: Tensor, target: Tensor, at: Coefficients) -> Tensor:
        """Each image's loss, (B,), from output and target (B, C, H, W); float32."""
