"""Changes to the training images before they are noised.

Contract: a variant changes images by random numbers that it is given, and says what it did. The network is shown that
as a condition, and nothing when it samples: so it learns from changed images, and draws none.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

from ddpm.base.tensor import Module, Tensor
from ddpm.base.variant import Variant


class Augmentation(Variant, ABC):
    """Contract of an augmentation."""

    draws: ClassVar[int] = 0
    """How many random numbers an image takes; with 0 nothing is done, and the network gets no condition."""
    conditions: ClassVar[int] = 0
    """How many numbers say what was done."""

    @abstractmethod
    def __call__(self, x_0: Tensor, normals: Tensor) -> tuple[Tensor, Tensor]:
        """Changed images and (B, conditions) float32, what was done to each: zeros for one that stayed as it was.

        x_0: (B, C, H, W) in [-1, 1]. normals: (B, draws) float32, standard normals. Image i depends on row i alone.
        """

    def layer(self, features: int) -> Module | None:
        """The layer from conditions to (B, features), which are added to the network's of t; None without any.

        It has no bias, so "nothing was done" is always zero: a trained network works without it. It starts as in EDM's
        DDPM++ (Karras et al. 2022, arXiv:2206.00364), whose layers have Xavier's uniform weights. Starting at zero, it
        hardly moves in a short training: the network cannot tell changed images from others then, and draws both.
        """
        from torch import nn

        if not self.draws:
            return None
        layer = nn.Linear(self.conditions, features, bias=False)
        nn.init.xavier_uniform_(layer.weight)
        return layer
