"""The vision transformer of Dosovitskiy et al. 2020 (arXiv:2010.11929), as DINOv2 and CLIP have it."""

from dataclasses import dataclass
from typing import ClassVar

from ddpm.base.tensor import Module
from ddpm.scoring.pretrained import Pretrained


@dataclass(frozen=True)
class TransformerShape:
    """The defaults are DINOv2's (Oquab et al. 2023, arXiv:2304.07193).

    grid: patches on a side of the images it was trained on. scaled: each branch is multiplied by learned scales
    (LayerScale, arXiv:2103.17239). projection: CLIP's, to so many features; 0: none. CLIP also has a norm before its
    blocks, no bias of its patches, and GELU approximated by x sigmoid(1.702 x).
    """

    width: int
    depth: int
    heads: int
    patch: int = 14
    grid: int = 37
    eps: float = 1e-6
    scaled: bool = True
    clip: bool = False
    projection: int = 0


class TransformerExtractor(Pretrained):
    """A vision transformer's class token after the last norm; it has no classes."""

    has_logits = False
    architecture: ClassVar[TransformerShape]

    def network(self) -> Module:
        from ddpm.scoring.vision_transformer_network import VisionTransformer

        return VisionTransformer(self.architecture)
