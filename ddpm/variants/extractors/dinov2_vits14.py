"""DINOv2 ViT-S/14 (Oquab et al. 2023, arXiv:2304.07193): dinov2, but smaller and faster.

Weights: Meta, Apache-2.0, 90 MB. Its scores are not those of the published comparisons, which use ViT-L/14.
"""

from ddpm.scoring.vision_transformer import TransformerExtractor, TransformerShape
from ddpm.scoring.weights import PublishedWeights


class DinoV2Small(TransformerExtractor):
    dimensions = 384
    architecture = TransformerShape(width=384, depth=12, heads=6)
    published = PublishedWeights(
        title="DINOv2 ViT-S/14",
        url="https://dl.fbaipublicfiles.com/dinov2/dinov2_vits14/dinov2_vits14_pretrain.pth",
        sha256="b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9",
    )
