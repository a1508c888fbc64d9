"""The network of DinoV2: the vision transformer of Dosovitskiy et al. 2020 (arXiv:2010.11929), as DINOv2 has it
(arXiv:2304.07193).

The names of its weights are those of the published file.
"""

from collections import OrderedDict
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm.scoring.features import Features

EPS = 1e-6  # of the norms
OFFSET = 0.1  # DINOv2 adds it to the new grid's side; published features depend on it


class TransformerShape(NamedTuple):
    """grid: patches on a side of the images it was trained on."""

    width: int
    depth: int
    heads: int
    patch: int = 14
    grid: int = 37


VIT_L14 = TransformerShape(width=1024, depth=24, heads=16)


class VisionTransformer(nn.Module):
    """(B, 3, H, W), sides in whole patches, to Features: (B, width)."""

    def __init__(self, shape: TransformerShape):
        super().__init__()
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, shape.width, shape.patch, shape.patch)})
        self.cls_token = nn.Parameter(torch.empty(1, 1, shape.width))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + shape.grid**2, shape.width))
        self.blocks = nn.Sequential(*(EncoderBlock(shape) for _ in range(shape.depth)))
        self.norm = nn.LayerNorm(shape.width, EPS)

    def forward(self, images: Tensor) -> Features:
        patches = self.patch_embed["proj"](images)
        tokens = torch.cat([self.cls_token.expand(len(images), -1, -1), patches.flatten(2).transpose(1, 2)], dim=1)
        features = self.norm(self.blocks(tokens + self.positions(*patches.shape[2:]))[:, 0])
        return Features(features, features[:, :0])

    def positions(self, rows: int, columns: int) -> Tensor:
        """(1, 1 + rows * columns, width): the trained grid of positions, resized to that of these images."""
        side = int((self.pos_embed.shape[1] - 1) ** 0.5)
        if rows == columns == side:
            return self.pos_embed
        grid = self.pos_embed[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2)
        scale = ((rows + OFFSET) / side, (columns + OFFSET) / side)
        resized = F.interpolate(grid, scale_factor=scale, mode="bicubic")
        return torch.cat([self.pos_embed[:, :1], resized.flatten(2).transpose(1, 2)], dim=1)


class EncoderBlock(nn.Module):
    """Attention, then a two-layer network, each on normalised tokens (B, N, width), multiplied by learned scales
    (LayerScale, arXiv:2103.17239) and added to them."""

    def __init__(self, shape: TransformerShape):
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(shape.width, EPS) for _ in range(2))
        self.attn = Attention(shape.width, shape.heads)
        fc1, fc2 = nn.Linear(shape.width, 4 * shape.width), nn.Linear(4 * shape.width, shape.width)
        self.mlp = nn.Sequential(OrderedDict(fc1=fc1, gelu=nn.GELU(), fc2=fc2))
        self.ls1, self.ls2 = (nn.ParameterDict({"gamma": torch.empty(shape.width)}) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x)) * self.ls1["gamma"]
        return x + self.mlp(self.norm2(x)) * self.ls2["gamma"]


class Attention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))
