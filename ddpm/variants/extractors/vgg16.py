"""VGG-16 (Simonyan & Zisserman 2014, arXiv:1409.1556), trained on ImageNet by torchvision.

Its second fully connected layer is what precision and recall were defined on (Kynkäänniemi et al. 2019,
arXiv:1904.06991), with other weights and another resizing: values are not theirs.
Weights: torchvision, BSD-3-Clause, 553 MB.
"""

from torch import Tensor, nn
from torchvision.models import vgg16

from ddpm.scoring.extractor import Features
from ddpm.scoring.pretrained import Pretrained
from ddpm.scoring.published import Published


class Vgg16(Pretrained):
    dimensions = 4096
    published = Published(
        title="VGG-16",
        url="https://download.pytorch.org/models/vgg16-397923af.pth",
        sha256="397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
    )

    def network(self) -> nn.Module:
        return Network()

    def renamed(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        return {f"vgg.{name}": tensor for name, tensor in state.items()}


class Network(nn.Module):
    """(B, 3, 224, 224) to Features: fc2 after its ReLU, (B, 4096), and the logits of ImageNet's classes, (B, 1000)."""

    def __init__(self) -> None:
        super().__init__()
        self.vgg = vgg16(weights=None, init_weights=False)

    def forward(self, images: Tensor) -> Features:
        *hidden, last = self.vgg.classifier
        features = self.vgg.avgpool(self.vgg.features(images)).flatten(1)
        for layer in hidden:
            features = layer(features)
        return Features(features, last(features))
