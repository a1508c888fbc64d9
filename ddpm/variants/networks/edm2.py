"""The magnitude-preserving UNet. EDM2, Karras et al. 2023 (arXiv:2312.02696), section 2 and appendix B.

No layer changes the expected magnitude of its activations: weights are normalised, sums and concatenations balanced.
There is no bias, no group norm and nothing that weight decay could do: use 0 for the optimizer's.
"""

from typing import Annotated

from pydantic import Field

from ddpm.base.sections import BelowOne, Positive, Shape
from ddpm.model.architecture import Architecture, Backbone


class EDM2(Architecture):
    """Levels with ``blocks`` residual blocks on the way down and ``blocks`` + 1 on the way up, with skip connections.

    Level i has base_channels * multipliers[i] channels and half the height and width of the previous level. Attention,
    with heads of ``head_width`` channels, follows each block of the levels whose height is in ``attention_sizes``, and
    the first of the two middle blocks. The paper's EDM2-S for 64x64 latents: 192, (1, 2, 3, 4), 3 blocks, (16, 8), 64.
    """

    base_channels: Positive = 128
    multipliers: Annotated[tuple[Positive, ...], Field(min_length=1, max_length=9)] = (1, 2, 2)
    blocks: Annotated[int, Field(ge=1, le=100)] = 3
    attention_sizes: tuple[Positive, ...] = (16,)
    head_width: Positive = 64
    dropout: BelowOne = 0.0

    def network(self, image: Shape, outputs: int, classes: int = 0) -> Backbone:
        from ddpm.model.layers import level_heights
        from ddpm.variants.networks._edm2 import EDM2Module

        heights = level_heights(image, self.multipliers, self.attention_sizes)
        levels = [m for m, height in zip(self.multipliers, heights, strict=True) if height in self.attention_sizes]
        if wrong := [m for m in (*levels, self.multipliers[-1]) if self.base_channels * m % self.head_width]:
            raise ValueError(
                f"head_width: {self.head_width} must divide the {self.base_channels * wrong[0]} channels that "
                "attention sees"
            )
        return EDM2Module(self, image, outputs, classes)
