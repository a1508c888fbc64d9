"""The module of DiT, apart from its fields, which are read without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm.base.sections import Shape
from ddpm.model.layers import (
    Backbone,
    ClassEmbedding,
    Recomputable,
    attend,
    from_patches,
    patch_grid,
    time_features,
    zero,
)

if TYPE_CHECKING:
    from ddpm.variants.networks.dit import DiT

TIME_FEATURES = 256


class DiTModule(Backbone):
    """``forward(x_t, t, labels)``: (B, channels, H, W), (B,) in 1..T, labels to (B, outputs, H, W); zero when new."""

    def __init__(self, shape: DiT, image: Shape, outputs: int, classes: int):
        super().__init__(TIME_FEATURES, "patches", "head")
        width = shape.width
        rows, columns = patch_grid(image, shape.patch_size)
        self.patch_size = shape.patch_size
        self.patches = nn.Conv2d(image.channels, width, shape.patch_size, stride=shape.patch_size)
        nn.init.xavier_uniform_(self.patches.weight.flatten(1))  # like a linear layer, which it is in effect
        # computed from the shape, so not saved in model files
        self.register_buffer("positions", positions(rows, columns, width), persistent=False)
        self.time = nn.Sequential(linear(TIME_FEATURES, width, 0.02), nn.SiLU(), linear(width, width, 0.02))
        self.classes = ClassEmbedding(classes, width, 0.02) if classes else None
        self.blocks = nn.ModuleList(
            DiTBlock(width, shape.heads, int(width * shape.mlp_ratio)) for _ in range(shape.depth)
        )
        self.norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.modulation = zero(nn.Linear(width, 2 * width))
        self.head = zero(nn.Linear(width, outputs * shape.patch_size**2))

    def forward(self, x_t: Tensor, t: Tensor, labels: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        x = self.patches(x_t)
        grid = x.shape[-2:]
        x = x.flatten(2).transpose(1, 2) + self.positions
        embedding = self.time(time_features(t, TIME_FEATURES, condition))
        if self.classes is not None:
            embedding = embedding + self.classes(labels)
        embedding = F.silu(embedding)
        for block in self.blocks:
            x = block(x, embedding)
        shift, scale = self.modulation(embedding)[:, None].chunk(2, dim=-1)
        return from_patches(self.head(modulate(self.norm(x), shift, scale)), grid, self.patch_size)


class DiTBlock(Recomputable):
    """Attention, then a two-layer network on (B, N, C) tokens; time shifts, scales and gates both (adaLN-Zero)."""

    def __init__(self, width: int, heads: int, hidden: int):
        super().__init__()
        self.heads = heads
        self.norm_1 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.qkv = linear(width, 3 * width)
        self.out = linear(width, width)
        self.norm_2 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.mlp = nn.Sequential(linear(width, hidden), nn.GELU(approximate="tanh"), linear(hidden, width))
        self.modulation = zero(nn.Linear(width, 6 * width))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """``embedding`` already includes the SiLU, which all blocks share."""
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = self.modulation(embedding)[:, None].chunk(6, dim=-1)
        x = x + gate_1 * self.out(attend(self.qkv(modulate(self.norm_1(x), shift_1, scale_1)), self.heads))
        return x + gate_2 * self.mlp(modulate(self.norm_2(x), shift_2, scale_2))


def linear(inputs: int, outputs: int, deviation: float | None = None) -> nn.Linear:
    """A linear layer as the paper's code initialises it: zero bias, weights by Xavier or with ``deviation``."""
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.bias)
    if deviation is None:
        nn.init.xavier_uniform_(layer.weight)
    else:
        nn.init.normal_(layer.weight, std=deviation)
    return layer


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return x * (1 + scale) + shift


def positions(rows: int, columns: int, width: int) -> Tensor:
    """(rows * columns, width) float32: sines and cosines of the column, then of the row, half the width each."""
    if torch.get_default_device().type == "meta":  # where arithmetic imports the compiler
        return torch.empty(rows * columns, width)
    frequency = 10_000.0 ** (-torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    angle = torch.arange(max(rows, columns), dtype=torch.float64)[:, None] * frequency
    axis = torch.cat([angle.sin(), angle.cos()], dim=1)
    return torch.cat([axis[:columns].repeat(rows, 1), axis[:rows].repeat_interleave(columns, 0)], dim=1).float()
