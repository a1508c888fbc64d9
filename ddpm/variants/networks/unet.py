"""The UNet of Ho et al. 2020 (arXiv:2006.11239), appendix B, in any size; with other options ADM, the UNet of Dhariwal
& Nichol 2021 (arXiv:2105.05233)."""

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ddpm.base.settings import BelowOne, Positive, Shape
from ddpm.model.architecture import Architecture
from ddpm.model.layers import (
    ClassEmbedding,
    Downsample,
    Dropout,
    Recomputable,
    ResidualBlock,
    SelfAttention,
    Upsample,
    level_heights,
    time_features,
    zeroed,
)

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

    def network(self, image: Shape, outputs: int, classes: int = 0) -> nn.Module:
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

    def heads(self, channels: int) -> int:
        """The heads of an attention layer over ``channels``. Raises ValueError when they do not divide them evenly."""
        name = "attention_head_width" if self.attention_head_width else "attention_heads"
        divisor = self.attention_head_width or self.attention_heads
        if channels % divisor:
            raise ValueError(f"{name}: {divisor} must divide the {channels} channels that attention sees")
        return channels // divisor if self.attention_head_width else divisor

    def residual(self, inputs: int, outputs: int, resample: nn.Module | None = None) -> ResidualBlock:
        """A residual block with these options; ``resample`` has no weights."""
        return ResidualBlock(
            inputs,
            outputs,
            self.base_channels * self.time_multiple,
            self.groups,
            Dropout(self.dropout, self.dropout_kind == "channel"),
            self.zero_init,
            self.scale_shift_norm,
            resample or nn.Identity(),
        )

    def downsample(self, channels: int) -> nn.Module:
        return Downsample(channels) if self.resample == "conv" else self.residual(channels, channels, nn.AvgPool2d(2))

    def upsample(self, channels: int) -> nn.Module:
        if self.resample == "conv":
            return Upsample(channels)
        return self.residual(channels, channels, nn.Upsample(scale_factor=2.0, mode="nearest"))


class UNetModule(nn.Module):
    """``forward(x_t, t, labels)``: (B, channels, H, W), (B,) in 1..T and labels to (B, outputs, H, W)."""

    def __init__(self, shape: UNet, image: Shape, outputs: int, classes: int):
        super().__init__()
        base, embedding = shape.base_channels, shape.base_channels * shape.time_multiple
        self.time_features, self.ends = base, ("stem", "head")
        self.time = nn.Sequential(nn.Linear(base, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        self.classes = ClassEmbedding(classes, embedding) if classes else None
        self.patch_size, pixels = shape.patch_size, shape.patch_size**2
        self.stem = nn.Conv2d(image.channels * pixels, base, 3, padding=1)
        self.down = nn.ModuleList()
        self.up = nn.ModuleList()
        skips = [base]
        width = base
        last = len(shape.multipliers) - 1
        for level, multiplier in enumerate(shape.multipliers):
            attends = image.height // shape.patch_size >> level in shape.attention_sizes
            for _ in range(shape.blocks):
                self.down.append(Block(shape, width, base * multiplier, attends))
                width = base * multiplier
                skips.append(width)
            if level < last:
                self.down.append(shape.downsample(width))
                skips.append(width)
        self.middle = nn.ModuleList(
            [Block(shape, width, width, shape.middle_attention), Block(shape, width, width, False)]
        )
        for level in range(last, -1, -1):
            attends = image.height // shape.patch_size >> level in shape.attention_sizes
            for _ in range(shape.blocks + 1):
                self.up.append(Block(shape, width + skips.pop(), base * shape.multipliers[level], attends))
                width = base * shape.multipliers[level]
            if level > 0:
                self.up.append(shape.upsample(width))
        self.norm = nn.GroupNorm(shape.groups, width)
        self.head = zeroed(nn.Conv2d(width, outputs * pixels, 3, padding=1), shape.zero_init)

    def forward(self, x_t: Tensor, t: Tensor, labels: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        embedding = self.time(time_features(t, self.time_features, condition))
        if self.classes is not None:
            embedding = embedding + self.classes(labels)
        embedding = F.silu(embedding)
        x = self.stem(F.pixel_unshuffle(x_t, self.patch_size))
        skips = [x]
        for layer in self.down:
            x = layer(x, embedding)
            skips.append(x)
        for layer in self.middle:
            x = layer(x, embedding)
        for layer in self.up:
            if isinstance(layer, Block):
                x = torch.cat([x, skips.pop()], dim=1)
            x = layer(x, embedding)
        return F.pixel_shuffle(self.head(F.silu(self.norm(x))), self.patch_size)


class Block(Recomputable):
    """A residual block, followed by attention where the level has it."""

    def __init__(self, shape: UNet, inputs: int, outputs: int, attends: bool):
        super().__init__()
        self.residual = shape.residual(inputs, outputs)
        self.attention = (
            SelfAttention(outputs, shape.heads(outputs), shape.groups, shape.zero_init) if attends else nn.Identity()
        )

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        return self.attention(self.residual(x, embedding))
