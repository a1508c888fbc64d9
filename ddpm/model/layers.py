"""Layers that architectures share. Feature maps are (B, C, H, W), tokens (B, N, C), time embeddings (B, E)."""

import math
from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ddpm.base.sections import Shape
from ddpm.compute import noise

# up to this many tokens two matrix products beat the CPU's tiled attention: 3x at 64, 1.8x at 256 in bfloat16
FEW_TOKENS = {torch.bfloat16: 256, torch.float32: 64}
FOLDED_CHANNELS = 128  # from here on, a CPU runs an upsampling convolution 1.1 to 1.7 times faster as four small ones


def sinusoidal_embedding(t: Tensor, size: int) -> Tensor:
    """(B, size) float32: sines, then cosines, of t at frequencies from 1 to 1/10000.

    Vaswani et al. 2017 (arXiv:1706.03762), section 3.5, as in the DDPM paper's code.
    """
    half = size // 2
    frequency = torch.exp(torch.arange(half, device=t.device) * (-math.log(10_000) / max(half - 1, 1)))
    angle = t.float()[:, None] * frequency
    return F.pad(torch.cat([angle.sin(), angle.cos()], dim=1), (0, size % 2))


def time_features(t: Tensor, size: int, condition: Tensor | None) -> Tensor:
    """``sinusoidal_embedding``, and the ``condition``, (B, size), added to it if there is one."""
    features = sinusoidal_embedding(t, size)
    return features if condition is None else features + condition


class SpanEmbedding(nn.Module):
    """(B,) spans t - s, in steps of the chain, to (B, features), a network's ``condition``: 0 for a span of 0."""

    def __init__(self, features: int):
        super().__init__()
        self.linear = nn.Linear(features, features, bias=False)
        nn.init.xavier_uniform_(self.linear.weight)

    def forward(self, span: Tensor) -> Tensor:
        size = self.linear.in_features
        zero = sinusoidal_embedding(torch.zeros_like(span), size)
        with torch.autocast(span.device.type, enabled=False):  # a span may be one of ten thousand steps
            return self.linear(sinusoidal_embedding(span, size) - zero)


class Backbone(nn.Module):
    """Base class of networks. time_features: how many features of t it sees. ends: its parts that touch the image, the
    first layer and the last ones. span: of a network that is a flow map."""

    def __init__(self, time_features: int, *ends: str):
        super().__init__()
        self.time_features, self.ends = time_features, ends
        self.span: SpanEmbedding | None = None

    def embed_span(self, span: Tensor) -> Tensor | None:
        """The condition that shows the network its span, (B, time_features); None if it knows none."""
        return None if self.span is None else self.span(span)


class ClassEmbedding(nn.Embedding):
    """(B,) labels, int64 in 0..classes, to (B, width); ``classes``, and None for all, is "no class"."""

    def __init__(self, classes: int, width: int, deviation: float = 1.0):
        super().__init__(classes + 1, width)
        nn.init.normal_(self.weight, std=deviation)

    def forward(self, labels: Tensor | None) -> Tensor:
        """(1, width) for None."""
        if labels is None:
            labels = torch.full((1,), self.num_embeddings - 1, device=self.weight.device)
        return super().forward(labels)


def zero(layer: nn.Conv2d | nn.Linear) -> nn.Module:
    """Set the layer's weights and bias to zero, so that its block starts as the identity; returns the layer."""
    for weight in layer.parameters():
        nn.init.zeros_(weight)
    return layer


class Recomputable(nn.Module):
    """A block whose activations are not worth keeping if memory is short: ``recompute_blocks`` does without them."""


def recompute_blocks(network: nn.Module) -> None:
    """Let each outermost ``Recomputable`` keep only its inputs, and run again in the backward pass for the rest.

    Chen et al. 2016 (arXiv:1604.06174). No parameter's name changes.
    """
    for child in network.children():
        if isinstance(child, Recomputable):
            child.forward = partial(checkpoint, child.forward, use_reentrant=False)
        else:
            recompute_blocks(child)


class Dropout(nn.Module):
    """In training, zero each value (each channel if ``channels``) with probability ``p``, and scale up the rest.

    ``keys``, (B, 2) int32, are set before each forward pass of training. An image's mask depends only on its key, so it
    is the same in any part of a batch and on any rank. If no keys are set, they are drawn from torch's generator.
    """

    def __init__(self, p: float, channels: bool):
        super().__init__()
        self.p = p
        self.channels = channels
        self.keys: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        keys = self.keys
        if keys is None:
            keys = torch.randint(-(2**31), 2**31, (len(x), 2), dtype=torch.int32, device=x.device)
        shape = (*x.shape[:2], 1, 1) if self.channels else x.shape
        mask = noise.keep_mask(keys, math.prod(shape[1:]), self.p).view(shape)
        return x * mask.to(x.dtype).mul_(1 / (1 - self.p))


def dropout_layers(network: nn.Module) -> dict[str, Dropout]:
    """The layers that drop anything, by name."""
    layers = network.named_modules()
    return {name: layer for name, layer in layers if isinstance(layer, Dropout) and layer.p > 0}


STACKS = ("qkv", "modulation")  # layers whose weight is several matrices, of as many outputs as inputs each


def hidden_weights(network: Backbone) -> dict[Tensor, int]:
    """The matrices and kernels of its layers, without embeddings and those at its ends; and how many matrices each is
    that only share their input, such as those of queries, keys and values."""
    weights = {}
    for name, module in network.named_modules():
        weight = None if isinstance(module, nn.Embedding) else getattr(module, "weight", None)
        if weight is not None and weight.ndim > 1 and name.partition(".")[0] not in network.ends:
            weights[weight] = len(weight) // weight.shape[1] if name.rpartition(".")[2] in STACKS else 1
    return weights


def attend(qkv: Tensor, heads: int) -> Tensor:
    """Multi-head self-attention: (B, N, 3C), that is queries, keys and values concatenated, to (B, N, C)."""
    batch, tokens, width = qkv.shape
    query, key, value = qkv.view(batch, tokens, 3, heads, width // (3 * heads)).permute(2, 0, 3, 1, 4).unbind()
    if tokens <= FEW_TOKENS.get(qkv.dtype, 0) and qkv.device.type == "cpu":
        output = torch.softmax(query * query.shape[-1] ** -0.5 @ key.transpose(-1, -2), dim=-1) @ value
    else:
        output = F.scaled_dot_product_attention(query, key, value)
    return output.transpose(1, 2).reshape(batch, tokens, width // 3)


def check_heads(width: int, heads: int) -> None:
    """Raises ValueError when ``attend`` cannot split the width among its heads."""
    if width % heads:
        raise ValueError(f"heads: {heads} must divide width: {width}")


def patch_grid(image: Shape, patch_size: int) -> tuple[int, int]:
    """Rows and columns of patches. Raises ValueError when they do not fill the image."""
    if image.height % patch_size or image.width % patch_size:
        raise ValueError(
            f"patch_size: {patch_size} must divide data.image_size: {image.image_size} in height and width"
        )
    return image.height // patch_size, image.width // patch_size


def level_heights(
    image: Shape, multipliers: Sequence[int], attention_sizes: Sequence[int], patch_size: int = 1
) -> list[int]:
    """The height of each level, half that of the one before. Raises ValueError when ``multipliers`` cannot halve the
    image, or the height in ``attention_sizes`` is none of these."""
    halvings = len(multipliers) - 1
    factor = patch_size * 2**halvings
    if image.height % factor or image.width % factor:
        patches = f" after patch_size: {patch_size}" if patch_size > 1 else ""
        raise ValueError(
            f"multipliers: {list(multipliers)} halve the image {halvings} times{patches}, so data.image_size: "
            f"{image.image_size} must be a multiple of {factor} in height and width"
        )
    heights = [image.height // patch_size >> level for level in range(len(multipliers))]
    if wrong := [size for size in attention_sizes if size not in heights]:
        raise ValueError(f"attention_sizes: {wrong[0]} is not the height of any level; allowed: {heights}")
    return heights


def from_patches(tokens: Tensor, grid: torch.Size, patch_size: int) -> Tensor:
    """(B, rows * columns, patch_size^2 * C) to the image of ``grid`` (rows, columns) patches, (B, C, H, W)."""
    x = tokens.unflatten(1, grid).unflatten(-1, (patch_size, patch_size, -1))
    return x.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)


class Downsample(nn.Module):
    """Halve height and width with a strided convolution; the time embedding is not used."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        return self.conv(x)


class Upsample(nn.Module):
    """Double height and width: nearest neighbour, then a convolution; the time embedding is not used."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        if x.device.type == "cpu" and x.shape[1] >= FOLDED_CHANNELS:
            return upsample_by_parity(x, self.conv.weight, self.conv.bias)
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


def upsample_by_parity(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A 3x3 convolution of x enlarged twofold, (B, C, H, W) to (B, O, 2H, 2W), with 4/9 of the multiplications.

    Rows of one parity of the enlarged image see only two rows of x, and likewise for columns. So each of the four
    parities has a 2x2 kernel, in which taps on the same pixel are summed.
    """
    batch, _, height, width = x.shape
    padded = F.pad(x, (1, 1, 1, 1))
    rows = [
        torch.stack(
            [
                F.conv2d(padded[:, :, i : i + height + 1, j : j + width + 1], _merge(_merge(weight, 2, i), 3, j), bias)
                for j in (0, 1)
            ],
            dim=-1,
        )
        for i in (0, 1)
    ]
    return torch.stack(rows, dim=3).reshape(batch, -1, 2 * height, 2 * width)


def _merge(weight: Tensor, axis: int, parity: int) -> Tensor:
    """Three taps to two: at even positions the last two are on the same pixel, at odd positions the first two."""
    first, middle, last = weight.split(1, dim=axis)
    return torch.cat([first + middle, last] if parity else [first, middle + last], dim=axis)
