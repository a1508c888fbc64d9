"""The module of UNet, apart from its fields, which are read without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm.base.sections import Shape
from ddpm.model.layers import (
    Backbone,
    ClassEmbedding,
    Downsample,
    Dropout,
    Recomputable,
    ResidualBlock,
    SelfAttention,
    Upsample,
    time_features,
    zeroed,
)

if TYPE_CHECKING:
    from ddpm.variants.networks.unet import UNet


class UNetModule(Backbone):
    """``forward(x_t, t, labels)``: (B, channels, H, W), (B,) in 1..T and labels to (B, outputs, H, W)."""

    def __init__(self, shape: UNet, image: Shape, outputs: int, classes: int):
        base, embedding = shape.base_channels, shape.base_channels * shape.time_multiple
        super().__init__(base, "stem", "head")
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
                self.down.append(UNetBlock(shape, width, base * multiplier, attends))
                width = base * multiplier
                skips.append(width)
            if level < last:
                self.down.append(downsample(shape, width))
                skips.append(width)
        self.middle = nn.ModuleList(
            [UNetBlock(shape, width, width, shape.middle_attention), UNetBlock(shape, width, width, False)]
        )
        for level in range(last, -1, -1):
            attends = image.height // shape.patch_size >> level in shape.attention_sizes
            for _ in range(shape.blocks + 1):
                self.up.append(UNetBlock(shape, width + skips.pop(), base * shape.multipliers[level], attends))
                width = base * shape.multipliers[level]
            if level > 0:
                self.up.append(upsample(shape, width))
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
            if isinstance(layer, UNetBlock):
                x = torch.cat([x, skips.pop()], dim=1)
            x = layer(x, embedding)
        return F.pixel_shuffle(self.head(F.silu(self.norm(x))), self.patch_size)


class UNetBlock(Recomputable):
    """A residual block, followed by attention where the level has it."""

    def __init__(self, shape: UNet, inputs: int, outputs: int, attends: bool):
        super().__init__()
        self.residual = residual(shape, inputs, outputs)
        self.attention = (
            SelfAttention(outputs, heads(shape, outputs), shape.groups, shape.zero_init) if attends else nn.Identity()
        )

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        return self.attention(self.residual(x, embedding))


def heads(shape: UNet, channels: int) -> int:
    """The heads of an attention layer over ``channels``. Raises ValueError when they do not divide them evenly."""
    name = "attention_head_width" if shape.attention_head_width else "attention_heads"
    divisor = shape.attention_head_width or shape.attention_heads
    if channels % divisor:
        raise ValueError(f"{name}: {divisor} must divide the {channels} channels that attention sees")
    return channels // divisor if shape.attention_head_width else divisor


def residual(shape: UNet, inputs: int, outputs: int, resample: nn.Module | None = None) -> ResidualBlock:
    """A residual block with these options; ``resample`` has no weights."""
    return ResidualBlock(
        inputs,
        outputs,
        shape.base_channels * shape.time_multiple,
        shape.groups,
        Dropout(shape.dropout, shape.dropout_kind == "channel"),
        shape.zero_init,
        shape.scale_shift_norm,
        resample or nn.Identity(),
    )


def downsample(shape: UNet, channels: int) -> nn.Module:
    return Downsample(channels) if shape.resample == "conv" else residual(shape, channels, channels, nn.AvgPool2d(2))


def upsample(shape: UNet, channels: int) -> nn.Module:
    if shape.resample == "conv":
        return Upsample(channels)
    return residual(shape, channels, channels, nn.Upsample(scale_factor=2.0, mode="nearest"))
