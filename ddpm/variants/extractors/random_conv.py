"""Fixed random convolutions, Kaiming-initialised (He et al. 2015, arXiv:1502.01852): nothing to learn or to download.

For images without labels, of any size and number of channels; Naeem et al. 2020 (arXiv:2002.09797) use random features
for images far from photographs. They see blur, noise, colours and layout, but hardly what is shown.
"""

from pathlib import Path

from ddpm.base.tensor import Device, Module
from ddpm.data.processed import open_split
from ddpm.scoring.extractor import Extractor


class RandomConv(Extractor):
    """The draws are a function of the seed alone. Each feature's mean and scale in the train split are rounded, so that
    another machine's rounding errors do not change the bytes.
    """

    dimensions = 160  # 2 scales of 16 filters: 4 quarters' means and a deviation
    has_logits = False

    def write_weights(self, processed: Path, path: Path, device: Device) -> None:
        from safetensors.torch import save_file

        from ddpm.scoring.networks.random_conv_network import fit

        save_file(fit(open_split(processed, "train")[0], device), path)

    def load(self, weights: Path) -> Module:
        from safetensors.torch import load_file

        from ddpm.scoring.networks.random_conv_network import RandomConvNetwork

        return RandomConvNetwork(load_file(weights)).eval()
