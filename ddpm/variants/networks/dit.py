"""The diffusion transformer. Peebles & Xie 2022 (arXiv:2212.09748), with adaLN-Zero blocks."""

from typing import Annotated

from pydantic import Field

from ddpm.base.sections import Positive, Shape
from ddpm.model.architecture import Architecture, Backbone


class DiT(Architecture):
    """``depth`` transformer blocks of ``width`` channels on patches of ``patch_size`` pixels a side.

    The defaults are the paper's DiT-S/2. Depth, width and heads of the others: B (12, 768, 12), L (24, 1024, 16),
    XL (28, 1152, 16). ``mlp_ratio`` * width is the hidden width of each block's two-layer network.

    Differs from the paper's code: the bias of the patch embedding starts as torch's layers do, not at zero.
    """

    patch_size: Positive = 2
    depth: Annotated[int, Field(ge=1, le=1000)] = 12
    width: Positive = 384
    heads: Positive = 6
    mlp_ratio: Annotated[float, Field(ge=0.25)] = 4.0

    def network(self, image: Shape, outputs: int, classes: int = 0) -> Backbone:
        from ddpm.model.layers import check_heads
        from ddpm.variants.networks._dit import DiTModule

        if self.width % 4:
            raise ValueError(f"width: {self.width} must be a multiple of 4, for the positions' sines and cosines")
        check_heads(self.width, self.heads)
        return DiTModule(self, image, outputs, classes)
