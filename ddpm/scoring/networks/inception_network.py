"""The network of Inception: see ddpm/variants/extractors/inception.py."""

import io

import torch
from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from ddpm.scoring.features import Features

LAYERS = ["2048", "logits_unbiased"]


class InceptionNetwork(nn.Module):
    """uint8 (B, 1 or 3, H, W) to Features: pool3, (B, 2048), and the logits without their bias, (B, 1008)."""

    def __init__(self, state: dict[str, Tensor]):
        super().__init__()
        # torch-fidelity only reads weights with torch.load, so it gets a pickle of the checked tensors, made here
        buffer = io.BytesIO()
        torch.save(state, buffer)
        buffer.seek(0)
        self.inception = FeatureExtractorInceptionV3("inception", LAYERS, feature_extractor_weights_path=buffer)

    def forward(self, images: Tensor) -> Features:
        return Features(*self.inception(images.expand(-1, 3, -1, -1)))
