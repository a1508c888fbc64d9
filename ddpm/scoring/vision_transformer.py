"""The vision transformer of Dosovitskiy et al. 2020 (arXiv:2010.11929), as DINOv2 has it (arXiv:2304.07193)."""

from dataclasses import dataclass
from typing import ClassVar

from ddpm.base.tensor import Module
from ddpm.scoring.pretrained import Pretrained


@dataclass(frozen=True)
class TransformerShape:
    """grid: patches on a side of the images it was trained on."""

    width: int
    depth: int
    heads: int
    patch: int = 14
    grid: int = 37


class TransformerExtractor(Pretrained):
    """A vision transformer's class token after the last norm; it has no classes."""

    has_logits = False
    architecture: ClassVar[TransformerShape]

    def network(self) -> Module:
        from ddpm.scoring.vision_transformer_network import VisionTransformer

        return VisionTransformer(self.architecture)
