"""torch-fidelity's ``inception-v3-compat``: the network that defines FID, IS and KID in the literature.

It resizes all images to 299x299, so scores of different image sizes look alike but are not comparable.
Weights: TensorFlow's inception-2015-12-05, converted by torch-fidelity, Apache-2.0.
"""

from pathlib import Path

from ddpm.base.tensor import Device, Module
from ddpm.scoring.extractor import Extractor
from ddpm.scoring.weights import PublishedWeights


class Inception(Extractor):
    dimensions = 2048
    channels = (1, 3)  # it was trained on RGB: gray is repeated
    frechet = "fid"
    resizer = "TensorFlow 1's bilinear filter to 299x299, without antialiasing"
    published = PublishedWeights(
        title="Inception",
        url="https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
        "weights-inception-2015-12-05-6726825d.pth",
        sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    )

    def write_weights(self, processed: Path, path: Path, device: Device) -> None:
        """Convert the published weights from torch.hub's cache, downloading them there first if necessary.

        Raises UserError when they cannot be downloaded or are not the published bytes.
        """
        from safetensors.torch import save_file

        state = self.published.read(self.name)
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)

    def load(self, weights: Path) -> Module:
        from safetensors.torch import load_file

        from ddpm.scoring.networks.inception_network import InceptionNetwork

        return InceptionNetwork(load_file(weights)).eval()
