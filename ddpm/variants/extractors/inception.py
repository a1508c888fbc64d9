"""torch-fidelity's ``inception-v3-compat``: the network that defines FID, IS and KID in the literature.

It resizes all images to 299x299, so scores of different image sizes look alike but are not comparable.
Weights: TensorFlow's inception-2015-12-05, converted by torch-fidelity, Apache-2.0.
"""

import io
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3

from ddpm.scoring.extractor import Extractor, Features
from ddpm.scoring.published import Published

LAYERS = ["2048", "logits_unbiased"]


class Inception(Extractor):
    dimensions = 2048
    channels = (1, 3)  # it was trained on RGB: gray is repeated
    frechet = "fid"
    published = Published(
        title="Inception",
        url=URL_INCEPTION_V3,
        sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    )

    def write_weights(self, processed: Path, path: Path, device: torch.device) -> None:
        """Convert the published weights from torch.hub's cache, downloading them there first if necessary.

        Raises UserError when they cannot be downloaded or are not the published bytes.
        """
        state = self.published.read(self.name)
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)

    def load(self, weights: Path) -> nn.Module:
        # torch-fidelity only reads weights with torch.load, so it gets a pickle of the checked tensors, made here
        buffer = io.BytesIO()
        torch.save(load_file(weights), buffer)
        buffer.seek(0)
        return Network(FeatureExtractorInceptionV3(self.name, LAYERS, feature_extractor_weights_path=buffer)).eval()


class Network(nn.Module):
    """uint8 (B, 1 or 3, H, W) to Features: pool3, (B, 2048), and the logits without their bias, (B, 1008)."""

    def __init__(self, inception: FeatureExtractorInceptionV3):
        super().__init__()
        self.inception = inception

    def forward(self, images: Tensor) -> Features:
        return Features(*self.inception(images.expand(-1, 3, -1, -1)))
