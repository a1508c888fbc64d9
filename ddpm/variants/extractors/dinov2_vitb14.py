"""DINOv2 ViT-B/14 (Oquab et al. 2023, arXiv:2304.07193): dinov2, but smaller and faster.

Weights: Meta, Apache-2.0, 350 MB. Its scores are not those of the published comparisons, which use ViT-L/14.
"""

from ddpm.scoring.vision_transformer import TransformerExtractor, TransformerShape
from ddpm.scoring.weights import PublishedWeights


class DinoV2Base(TransformerExtractor):
    dimensions = 768
    architecture = TransformerShape(width=768, depth=12, heads=12)
    published = PublishedWeights(
        title="DINOv2 ViT-B/14",
        url="https://dl.fbaipublicfiles.com/dinov2/dinov2_vitb14/dinov2_vitb14_pretrain.pth",
        sha256="0b8b82f85de91b424aded121c7e1dcc2b7bc6d0adeea651bf73a13307fad8c73",
    )
