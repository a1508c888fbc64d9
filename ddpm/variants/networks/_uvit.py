"""The module of UViT, apart from its fields, which are read without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
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
    from ddpm.variants.networks.uvit import UViT

DEVIATION = 0.02  # of the authors' fresh weights and positions
AUTHORS_WIDTH = 512  # of their smallest network


class UViTModule(Backbone):
    """``forward(x_t, t, labels)``: (B, channels, H, W), (B,) in 1..T and labels to (B, outputs, H, W)."""

    def __init__(self, shape: UViT, image: Shape, outputs: int, classes: int):
        super().__init__(shape.width, "patches", "head", "smooth")
        width, self.patch_size = shape.width, shape.patch_size
        rows, columns = patch_grid(image, shape.patch_size)
        self.patches = nn.Conv2d(image.channels, width, shape.patch_size, stride=shape.patch_size)
        self.classes = ClassEmbedding(classes, width) if classes else None
        self.tokens = 2 if classes else 1  # before the patches: time, and the class
        self.positions = nn.Parameter(torch.empty(self.tokens + rows * columns, width))
        nn.init.trunc_normal_(self.positions, std=DEVIATION)
        hidden, half = int(width * shape.mlp_ratio), shape.depth // 2
        self.down = nn.ModuleList(UViTBlock(width, shape.heads, hidden) for _ in range(half))
        self.middle = UViTBlock(width, shape.heads, hidden)
        self.up = nn.ModuleList(UViTBlock(width, shape.heads, hidden, skips=True) for _ in range(half))
        self.norm = nn.LayerNorm(width)
        self.head = linear(width, outputs * shape.patch_size**2)
        self.smooth = nn.Conv2d(outputs, outputs, 3, padding=1)  # across the edges of patches
        if shape.init == "scaled" or (shape.init == "auto" and width < AUTHORS_WIDTH):
            self.scale()

    def scale(self) -> None:
        """Draw weights and positions such that tokens have a scale of about 1 at any width."""
        for layer in self.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                nn.init.normal_(layer.weight, std=layer.weight[0].numel() ** -0.5)
        nn.init.normal_(self.positions)
        zero(self.smooth)
        nn.init.dirac_(self.smooth.weight)

    def forward(self, x_t: Tensor, t: Tensor, labels: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        x = self.patches(x_t)
        grid = x.shape[-2:]
        tokens = [time_features(t, self.time_features, condition)[:, None], x.flatten(2).transpose(1, 2)]
        if self.classes is not None:
            tokens.insert(1, self.classes(labels)[:, None].expand(len(x), -1, -1))
        x = torch.cat(tokens, dim=1) + self.positions
        skips = []
        for block in self.down:
            x = block(x)
            skips.append(x)
        x = self.middle(x)
        for block in self.up:
            x = block(x, skips.pop())
        return self.smooth(from_patches(self.head(self.norm(x))[:, self.tokens :], grid, self.patch_size))


class UViTBlock(Recomputable):
    """Attention, then a two-layer network on (B, N, C) tokens; with ``skips``, of two inputs made one by a linear
    layer."""

    def __init__(self, width: int, heads: int, hidden: int, skips: bool = False):
        super().__init__()
        self.heads = heads
        self.skip = linear(2 * width, width) if skips else None
        self.norm_1 = nn.LayerNorm(width)
        self.qkv = linear(width, 3 * width, bias=False)
        self.out = linear(width, width)
        self.norm_2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(linear(width, hidden), nn.GELU(), linear(hidden, width))

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        if self.skip is not None and skip is not None:
            x = self.skip(torch.cat([x, skip], dim=-1))
        x = x + self.out(attend(self.qkv(self.norm_1(x)), self.heads))
        return x + self.mlp(self.norm_2(x))


def linear(inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
    """A linear layer as the paper's code initialises it: zero bias, weights of a small normal distribution."""
    layer = nn.Linear(inputs, outputs, bias=bias)
    nn.init.trunc_normal_(layer.weight, std=DEVIATION)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer
