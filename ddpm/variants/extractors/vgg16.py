"""VGG-16 (Simonyan & Zisserman 2014, arXiv:1409.1556), trained on ImageNet by torchvision.

Its second fully connected layer is what precision and recall were defined on (Kynkäänniemi et al. 2019,
arXiv:1904.06991), with other weights and another resizing: values are not theirs.
Weights: torchvision, BSD-3-Clause, 553 MB.
"""

from typing import ClassVar

from ddpm.base.tensor import Module
from ddpm.scoring.pretrained import Pretrained
from ddpm.scoring.weights import PublishedWeights


class Vgg16(Pretrained):
    dimensions = 4096
    published = PublishedWeights(
        title="VGG-16",
        url="https://download.pytorch.org/models/vgg16-397923af.pth",
        sha256="397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
    )
    names: ClassVar = {"^": "vgg."}

    def network(self) -> Module:
        from ddpm.scoring.vgg16_network import VGG16Network

        return VGG16Network()
