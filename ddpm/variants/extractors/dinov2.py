"""DINOv2 ViT-L/14 (Oquab et al. 2023, arXiv:2304.07193): features learned from photographs without labels.

Its Fréchet distance follows human judgement of diffusion models better than Inception's (Stein et al. 2023,
arXiv:2306.04675). The preprocessing is that of their dgm-eval by default, so that values can be cited.
Weights: Meta, Apache-2.0, 1.2 GB. On a CPU an image takes seconds.
"""

from ddpm.base.tensor import Module
from ddpm.scoring.pretrained import Pretrained
from ddpm.scoring.weights import PublishedWeights


class DinoV2(Pretrained):
    """The class token after the last norm; it has no classes."""

    dimensions = 1024
    has_logits = False
    published = PublishedWeights(
        title="DINOv2 ViT-L/14",
        url="https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/dinov2_vitl14_pretrain.pth",
        sha256="d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428",
    )

    def network(self) -> Module:
        from ddpm.scoring.networks.dinov2_network import VIT_L14, VisionTransformer

        return VisionTransformer(VIT_L14)
