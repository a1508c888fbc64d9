"""The first principal components of the train images' pixels: linear, nothing to learn or to download.

They see layout, contrast and how images vary as a whole, which features that pool over the image do not: smooth or
nearly equal images have too little variance along them. They see nothing finer than the components themselves.
"""

from pathlib import Path

from ddpm.base.tensor import Device, Module
from ddpm.data.processed import open_split
from ddpm.scoring.extractor import Extractor


class Components(Extractor):
    """All are divided by one number, so that the train images' variance along a component is 1 in the mean. The weights
    are rounded, so that another machine's rounding errors do not change the bytes.
    """

    dimensions = 32
    has_logits = False

    def write_weights(self, processed: Path, path: Path, device: Device) -> None:
        from safetensors.torch import save_file

        from ddpm.scoring.networks.components_network import fit

        save_file(fit(open_split(processed, "train")[0], self.dimensions), path)

    def load(self, weights: Path) -> Module:
        from safetensors.torch import load_file

        from ddpm.scoring.networks.components_network import ComponentsNetwork

        return ComponentsNetwork(load_file(weights)).eval()
