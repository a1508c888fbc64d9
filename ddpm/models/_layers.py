"""Blocks that architectures share. Feature maps are (B, C, H, W), time embeddings (B, E)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def sinusoidal_embedding(t: Tensor, size: int) -> Tensor:
    """(B, size) float32: sines, then cosines, of t at frequencies from 1 to 1/10000.

    Vaswani et al. 2017 (arXiv:1706.03762), section 3.5, as in the DDPM paper's code.
    """
    half = size // 2
    frequency = torch.exp(torch.arange(half, device=t.device) * (-math.log(10_000) / max(half - 1, 1)))
    angle = t.float()[:, None] * frequency
    return F.pad(torch.cat([angle.sin(), angle.cos()], dim=1), (0, size % 2))


def zeroed(layer: nn.Conv2d | nn.Linear, zero: bool = True) -> nn.Module:
    """The layer with weights and bias zero, where ``zero``: a block that begins as the identity."""
    if zero:
        nn.init.zeros_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    return layer


class SelfAttention(nn.Module):
    """Residual multi-head self-attention over pixels. Ho et al. 2020, appendix B."""

    def __init__(self, channels: int, heads: int, groups: int, zero_init: bool):
        super().__init__()
        if channels % heads:
            raise ValueError(f"attention_heads: {heads} must divide the {channels} channels that attention sees")
        self.heads = heads
        self.norm = nn.GroupNorm(groups, channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = zeroed(nn.Linear(channels, channels), zero_init)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        pixels = self.norm(x).flatten(2).transpose(1, 2)
        qkv = self.qkv(pixels).view(batch, height * width, 3, self.heads, channels // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind()
        mixed = F.scaled_dot_product_attention(query, key, value)
        mixed = self.out(mixed.transpose(1, 2).reshape(batch, height * width, channels))
        return x + mixed.transpose(1, 2).view(batch, channels, height, width)


class ResidualBlock(nn.Module):
    """GroupNorm, SiLU, 3x3 convolution, twice, with the time embedding added between. Ho et al. 2020, appendix B."""

    def __init__(self, inputs: int, outputs: int, embedding: int, groups: int, dropout: nn.Module, zero_init: bool):
        super().__init__()
        self.norm_1 = nn.GroupNorm(groups, inputs)
        self.conv_1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.time = nn.Linear(embedding, outputs)
        self.norm_2 = nn.GroupNorm(groups, outputs)
        self.dropout = dropout
        self.conv_2 = zeroed(nn.Conv2d(outputs, outputs, 3, padding=1), zero_init)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """``embedding`` has passed its SiLU already: all blocks share that."""
        h = self.conv_1(F.silu(self.norm_1(x)))
        h = h + self.time(embedding)[:, :, None, None]
        h = self.conv_2(self.dropout(F.silu(self.norm_2(h))))
        return h + self.skip(x)


class Downsample(nn.Conv2d):
    """Halve height and width by a strided convolution."""

    def __init__(self, channels: int):
        super().__init__(channels, channels, 3, stride=2, padding=1)


class Upsample(nn.Conv2d):
    """Double height and width: nearest neighbour, then a convolution."""

    def __init__(self, channels: int):
        super().__init__(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.interpolate(x, scale_factor=2.0, mode="nearest"))
