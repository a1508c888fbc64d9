"""The network of Vgg16: see ddpm/variants/extractors/vgg16.py."""

from torch import Tensor, nn
from torchvision.models import vgg16

from ddpm.scoring.features import Features


class VGG16Network(nn.Module):
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
