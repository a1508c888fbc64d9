"""A plain vision transformer with long skip connections, in which time is a token. U-ViT, Bao et al. 2022
(arXiv:2209.12152)."""

from typing import Annotated, Literal

from pydantic import Field

from ddpm.base.sections import Positive, Shape
from ddpm.model.architecture import Architecture, Backbone


class UViT(Architecture):
    """``depth`` blocks of ``width`` channels, half of them before a middle block and half after, on patches of
    ``patch_size`` pixels a side. The first half's outputs go to the second half's inputs, the last to the first.

    The defaults are the paper's U-ViT-S/2 for CIFAR-10. Depth, width and heads of the others: M (16, 768, 12),
    L (20, 1024, 16). ``mlp_ratio`` * width is the hidden width of each block's two-layer network.

    init: how fresh weights and positions are drawn. ``authors`` has a standard deviation of 0.02 whatever the width,
    which suits 512 channels; narrower networks hardly learn from it for the first thousands of steps. ``scaled``, which
    is not the paper's, draws weights from N(0, 1 / inputs) and positions from N(0, 1), and starts the last convolution
    as the identity. ``auto`` is ``authors`` from a width of 512 on, and ``scaled`` below it.
    """

    patch_size: Positive = 2
    depth: Annotated[int, Field(ge=2, le=1000, multiple_of=2)] = 12
    width: Positive = 512
    heads: Positive = 8
    mlp_ratio: Annotated[float, Field(ge=0.25)] = 4.0
    init: Literal["auto", "authors", "scaled"] = "auto"

    def network(self, image: Shape, outputs: int, classes: int = 0) -> Backbone:
        from ddpm.model.layers import check_heads
        from ddpm.variants.networks._uvit import UViTModule

        check_heads(self.width, self.heads)
        return UViTModule(self, image, outputs, classes)
