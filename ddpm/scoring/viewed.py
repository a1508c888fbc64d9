"""A network of published weights with what it sees of an image."""

from collections.abc import Callable

from torch import Tensor, nn

from ddpm.scoring.features import Features


class Viewed(nn.Module):
    """uint8 (B, 1 or 3, H, W) to Features, through ``view``."""

    def __init__(self, view: Callable[[Tensor], Tensor], network: nn.Module):
        super().__init__()
        self.view, self.network = view, network

    def forward(self, images: Tensor) -> Features:
        features: Features = self.network(self.view(images))
        return features
