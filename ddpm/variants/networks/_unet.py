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
    Upsample,
    attend,
    time_features,
    zero,
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
        end, convolves = len(shape.multipliers) - 1, shape.resample == "conv"
        for level, multiplier in enumerate(shape.multipliers):
            attends = image.height // shape.patch_size >> level in shape.attention_sizes
            for _ in range(shape.blocks):
                self.down.append(UNetBlock(shape, width, base * multiplier, attends))
                width = base * multiplier
                skips.append(width)
            if level < end:
                halve = Downsample(width) if convolves else ResidualBlock(shape, width, width, nn.AvgPool2d(2))
                self.down.append(halve)
                skips.append(width)
        self.middle = nn.ModuleList(
            [UNetBlock(shape, width, width, shape.middle_attention), UNetBlock(shape, width, width, False)]
        )
        for level in range(end, -1, -1):
            attends = image.height // shape.patch_size >> level in shape.attention_sizes
            for _ in range(shape.blocks + 1):
                self.up.append(UNetBlock(shape, width + skips.pop(), base * shape.multipliers[level], attends))
                width = base * shape.multipliers[level]
            if level > 0:
                double = nn.Upsample(scale_factor=2.0, mode="nearest")
                self.up.append(Upsample(width) if convolves else ResidualBlock(shape, width, width, double))
        self.norm = nn.GroupNorm(shape.groups, width)
        self.head = last(shape, nn.Conv2d(width, outputs * pixels, 3, padding=1))

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
        self.residual = ResidualBlock(shape, inputs, outputs, nn.Identity())
        self.attention = SelfAttention(shape, outputs) if attends else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        return self.attention(self.residual(x, embedding))


class ResidualBlock(Recomputable):
    """GroupNorm, SiLU, 3x3 convolution, twice, with the time embedding added in between. Ho et al. 2020, appendix B.

    ``resample``, which has no weights, changes height and width before the first convolution and on the skip
    connection. With ``scale_shift_norm`` the embedding scales and shifts the output of the second GroupNorm instead of
    being added before it (adaptive group normalization). Both are from Dhariwal & Nichol 2021 (arXiv:2105.05233),
    section 3.
    """

    def __init__(self, shape: UNet, inputs: int, outputs: int, resample: nn.Module):
        super().__init__()
        self.scale_shift = shape.scale_shift_norm
        self.norm_1 = nn.GroupNorm(shape.groups, inputs)
        self.resample = resample
        self.conv_1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.time = nn.Linear(shape.base_channels * shape.time_multiple, 2 * outputs if self.scale_shift else outputs)
        self.norm_2 = nn.GroupNorm(shape.groups, outputs)
        self.dropout = Dropout(shape.dropout, shape.dropout_kind == "channel")
        self.conv_2 = last(shape, nn.Conv2d(outputs, outputs, 3, padding=1))
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """``embedding`` already includes the SiLU, which all blocks share."""
        h = self.conv_1(self.resample(F.silu(self.norm_1(x))))
        time = self.time(embedding)[:, :, None, None]
        if self.scale_shift:
            scale, shift = time.chunk(2, dim=1)
            h = self.norm_2(h) * (1 + scale) + shift
        else:
            h = self.norm_2(h + time)
        h = self.conv_2(self.dropout(F.silu(h)))
        return h + self.skip(self.resample(x))


class SelfAttention(nn.Module):
    """Residual multi-head self-attention over pixels. Ho et al. 2020, appendix B.

    Raises ValueError when the heads do not divide the channels evenly.
    """

    def __init__(self, shape: UNet, channels: int):
        super().__init__()
        width = shape.attention_head_width
        divisor, name = (width, "attention_head_width") if width else (shape.attention_heads, "attention_heads")
        if channels % divisor:
            raise ValueError(f"{name}: {divisor} must divide the {channels} channels that attention sees")
        self.heads = channels // divisor if width else divisor
        self.norm = nn.GroupNorm(shape.groups, channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = last(shape, nn.Linear(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        pixels = self.norm(x).flatten(2).transpose(1, 2)
        attention = self.out(attend(self.qkv(pixels), self.heads))
        return x + attention.transpose(1, 2).reshape(x.shape)


def last(shape: UNet, layer: nn.Conv2d | nn.Linear) -> nn.Module:
    """The last layer of a block or of the network, which starts at zero with ``zero_init``."""
    return zero(layer) if shape.zero_init else layer
