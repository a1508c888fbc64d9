"""The UNet of Ho et al. 2020 (arXiv:2006.11239), appendix B, in any size; with other options ADM, the UNet of Dhariwal
& Nichol 2021 (arXiv:2105.05233)."""

from typing import Annotated, Literal

from pydantic import Field

from ddpm.base.sections import BelowOne, Positive, Shape
from ddpm.model.architecture import Architecture, Backbone

Few = Annotated[int, Field(ge=1, le=100)]


class UNet(Architecture):
    """Levels with ``blocks`` residual blocks on the way down and ``blocks`` + 1 on the way up, with skip connections.

    Level i has base_channels * multipliers[i] channels and half the height and width of the previous level. Attention
    follows each block of the levels whose height is in ``attention_sizes``, and the first of the two middle blocks. It
    has ``attention_heads`` heads or, if set, heads of ``attention_head_width`` channels. Patches of ``patch_size``
    pixels a side become the channels of the first level (space to depth). ``resample`` between levels is a convolution
    or a residual block. With ``scale_shift_norm``, time scales and shifts each block's second normalization.
    ``time_multiple`` * base_channels is the width of the time embedding, to which that of the class is added.
    """

    base_channels: Annotated[int, Field(ge=2)] = 128
    patch_size: Positive = 1
    multipliers: Annotated[tuple[Positive, ...], Field(min_length=1, max_length=9)] = (1, 2, 2, 2)
    blocks: Few = 2
    attention_sizes: tuple[Positive, ...] = (16,)
    attention_heads: Positive = 1
    attention_head_width: Positive | None = None
    middle_attention: bool = True
    scale_shift_norm: bool = False
    resample: Literal["conv", "residual"] = "conv"
    groups: Positive = 32
    time_multiple: Positive = 4
    dropout: BelowOne = 0.1
    dropout_kind: Literal["pixel", "channel"] = "pixel"
    zero_init: bool = True

    def network(self, image: Shape, outputs: int, classes: int = 0) -> Backbone:
        from ddpm.model.layers import level_heights
        from ddpm.variants.networks._unet import UNetModule

        heights = level_heights(image, self.multipliers, self.attention_sizes, self.patch_size)
        if wrong := [m for m in self.multipliers if self.base_channels * m % self.groups]:
            raise ValueError(
                f"groups: {self.groups} must divide base_channels * multiplier = {self.base_channels * wrong[0]}"
            )
        factor = image.height // heights[-1]
        pixels, width = image.height * image.width // factor**2, self.base_channels * self.multipliers[-1]
        if pixels * width == self.groups:  # group norm makes a zero of a group's only value
            raise ValueError(f"groups: {self.groups} of the last level's {width} channels and one pixel; use fewer")
        return UNetModule(self, image, outputs, classes)
