"""The module of EDM2, apart from its fields, which are read without torch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm.base.sections import Shape
from ddpm.model.layers import Backbone, ClassEmbedding, Dropout, Recomputable, attend, time_features

if TYPE_CHECKING:
    from ddpm.variants.networks.edm2 import EDM2

EPSILON = 1e-4  # keeps a vector of zeros from being divided by 0
SILU = 0.596  # root mean square of SiLU of a standard normal number
RESIDUAL, CLASS, SKIP = 0.3, 0.5, 0.5  # the second operand's part of a balanced sum
LARGEST = 256.0  # of an activation, for half precision


class EDM2Module(Backbone):
    """``forward(x_t, t, labels)``: (B, channels, H, W), (B,) in 1..T, labels to (B, outputs, H, W); zero when new."""

    def __init__(self, shape: EDM2, image: Shape, outputs: int, classes: int):
        base = shape.base_channels
        super().__init__(base, "stem", "head")
        widths = [base * multiplier for multiplier in shape.multipliers]
        embedding = max(widths)
        self.time = Layer(base, embedding)
        self.classes = ClassEmbedding(classes, embedding) if classes else None
        self.stem = Layer(image.channels + 1, base, 3)  # and a channel of ones, in place of a bias
        attends = [image.height >> level in shape.attention_sizes for level in range(len(widths))]

        def block(
            inputs: int, outputs: int, attends: bool, resample: nn.Module | None = None, up: bool = False
        ) -> EDM2Block:
            heads = outputs // shape.head_width if attends else 0
            return EDM2Block(inputs, outputs, embedding, heads, shape.dropout, resample or nn.Identity(), up)

        width, skips = base, [base]
        self.down = nn.ModuleList()
        for level, wide in enumerate(widths):
            if level:
                self.down.append(block(width, width, False, nn.AvgPool2d(2)))
                skips.append(width)
            for _ in range(shape.blocks):
                self.down.append(block(width, wide, attends[level]))
                width = wide
                skips.append(width)
        self.middle = nn.ModuleList([block(width, width, True, up=True), block(width, width, False, up=True)])
        self.up = nn.ModuleList()
        for level in reversed(range(len(widths))):
            for _ in range(shape.blocks + 1):
                self.up.append(block(width + skips.pop(), widths[level], attends[level], up=True))
                width = widths[level]
            if level:
                self.up.append(block(width, width, False, nn.Upsample(scale_factor=2.0, mode="nearest"), up=True))
        self.head = Layer(width, outputs, 3)
        self.gain = nn.Parameter(torch.zeros(()))
        self.layers = [module for module in self.modules() if isinstance(module, Layer)]

    def forward(self, x_t: Tensor, t: Tensor, labels: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        if self.training:
            normalize([layer.weight for layer in self.layers])
        embedding = self.time(time_features(t, self.time_features, condition) * math.sqrt(2))
        if self.classes is not None:
            embedding = balance(embedding, unit(self.classes(labels)), CLASS)
        embedding = silu(embedding)
        x = self.stem(torch.cat([x_t, torch.ones_like(x_t[:, :1])], dim=1))
        skips = [x]
        for layer in self.down:
            x = layer(x, embedding)
            skips.append(x)
        for layer in self.middle:
            x = layer(x, embedding)
        for layer in self.up:
            x = layer(x if isinstance(layer.resample, nn.Upsample) else concatenate(x, skips.pop()), embedding)
        return self.head(x, self.gain)


class EDM2Block(Recomputable):
    """A residual block, then attention with ``heads``; 0: none. ``up`` puts the 1x1 convolution of a change of width
    next to the residual branch, else it comes before it, with pixel norm."""

    def __init__(
        self, inputs: int, outputs: int, embedding: int, heads: int, dropout: float, resample: nn.Module, up: bool
    ):
        super().__init__()
        self.up, self.heads, self.resample = up, heads, resample
        self.skip = Layer(inputs, outputs, 1) if inputs != outputs else None
        self.first = Layer(inputs if up else outputs, outputs, 3)
        self.embed, self.gain = Layer(embedding, outputs), nn.Parameter(torch.zeros(()))
        self.dropout = Dropout(dropout, channels=False)
        self.second = Layer(outputs, outputs, 3)
        self.qkv = Layer(outputs, 3 * outputs) if heads else None
        self.out = Layer(outputs, outputs) if heads else None

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        x = self.resample(x)
        if not self.up:
            x = unit(x if self.skip is None else self.skip(x))
        y = self.first(silu(x))
        y = silu(y * (1 + self.embed(embedding, self.gain)).to(y.dtype)[:, :, None, None])
        y = self.second(self.dropout(y))
        if self.up and self.skip is not None:
            x = self.skip(x)
        x = balance(x, y, RESIDUAL)
        if self.qkv is not None and self.out is not None:
            qkv = self.qkv(x.flatten(2).transpose(1, 2)).unflatten(-1, (3 * self.heads, -1))
            mixed = self.out(attend(unit(qkv, -1).flatten(2), self.heads))
            x = balance(x, mixed.transpose(1, 2).view_as(x), RESIDUAL)
        return x.clamp(-LARGEST, LARGEST)


class Layer(nn.Module):
    """A convolution of ``size`` pixels a side, or a linear layer without one, whose weights always have the same
    magnitude: those of each output are normalised."""

    def __init__(self, inputs: int, outputs: int, size: int | None = None):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, *([size, size] if size else [])))
        nn.init.normal_(self.weight)

    def forward(self, x: Tensor, gain: Tensor | None = None) -> Tensor:
        weight = unit(self.weight, *range(1, self.weight.ndim)) / math.sqrt(self.weight[0].numel())
        if gain is not None:
            weight = weight * gain
        return F.conv2d(x, weight, padding="same") if weight.ndim == 4 else F.linear(x, weight)


@torch.no_grad()
def normalize(weights: list[Tensor]) -> None:
    """Give each output's weights a root mean square of 1, in place and together: a GPU waits for each call. This is the
    paper's forced normalisation, by which the learning rate alone decides how fast they turn."""
    squares = torch._foreach_mul(weights, weights)
    sizes = torch.cat([square.mean(tuple(range(1, square.ndim))) for square in squares]).sqrt()
    # not again, by rounding, when the same weights run another part of the batch
    sizes = torch.where((sizes - 1).abs() < EPSILON, 1.0, sizes)
    parts = sizes.split([len(weight) for weight in weights])
    shaped = [part.view(-1, *[1] * (weight.ndim - 1)) for part, weight in zip(parts, weights, strict=True)]
    torch._foreach_div_(weights, shaped)


def unit(x: Tensor, *dimensions: int) -> Tensor:
    """x with a root mean square of 1 over the ``dimensions``, of the channels if there are none."""
    square = x.float().square().mean(dimensions or (1,), keepdim=True)
    return x / (square.sqrt() + EPSILON).to(x.dtype)


def silu(x: Tensor) -> Tensor:
    return F.silu(x) / SILU


def balance(a: Tensor, b: Tensor, part: float) -> Tensor:
    """A sum of (1 - part) a and part b, as large as they are if they are independent. Equation 88."""
    return torch.lerp(a, b.to(a.dtype), part) / math.hypot(1 - part, part)


def concatenate(a: Tensor, b: Tensor) -> Tensor:
    """Both side by side, weighted so that each contributes by SKIP and not by its width. Equation 103."""
    widths = a.shape[1], b.shape[1]
    scale = math.sqrt(sum(widths) / ((1 - SKIP) ** 2 + SKIP**2))
    return torch.cat(
        [a * (scale * (1 - SKIP) / math.sqrt(widths[0])), b * (scale * SKIP / math.sqrt(widths[1]))], dim=1
    )
