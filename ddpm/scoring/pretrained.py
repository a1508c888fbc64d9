"""Contract of an extractor whose network others trained on photographs, and what such a network sees of an image."""

import json
import re
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from ddpm.base.tensor import Device, Module, Tensor
from ddpm.scoring.extractor import Extractor
from ddpm.scoring.weights import PublishedWeights

METADATA = "ddpm_view"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class View:
    """The whole image, squashed to ``size`` x ``size`` pixels by Pillow's bicubic filter, in RGB with normalised
    channels. Pillow averages over the source pixels when it shrinks, and rounds to 8 bits, the same on every machine.
    """

    size: int = 224
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 (B, 1 or 3, H, W) to float32 (B, 3, size, size); gray is repeated."""
        import torch
        from PIL import Image

        rows = images.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).contiguous().cpu().numpy()
        shape = (self.size, self.size)
        pictures = (Image.fromarray(row).resize(shape, Image.Resampling.BICUBIC) for row in rows)
        resized = np.stack([np.asarray(picture) for picture in pictures])
        # channels stay last in memory, and networks keep them there: on a CPU EfficientNet then takes a fifth less time
        pixels = torch.from_numpy(resized).to(images.device).permute(0, 3, 1, 2).float() / 255
        mean, std = (pixels.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        return (pixels - mean) / std


class Pretrained(Extractor, ABC):
    """The weights are converted from ``published`` once. The file names the ``view``, so that another resizing is
    another file, and its scores have another fingerprint.

    names: patterns in the names of the published tensors -> what stands there in the network's, applied in order.
    """

    channels = (1, 3)
    resizer = "Pillow's bicubic filter to 224x224"
    published: ClassVar[PublishedWeights]
    view: ClassVar[View] = View()
    names: ClassVar[dict[str, str]] = {}

    @abstractmethod
    def network(self) -> Module:
        """Without its weights: normalised (B, 3, size, size) to Features."""

    def rename(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The published tensors under the names of ``network``; those it lacks are left out later."""
        tensors = {}
        for name, tensor in state.items():
            for theirs, ours in self.names.items():
                name = re.sub(theirs, ours, name)  # noqa: PLW2901
            tensors[name] = tensor
        return tensors

    def write_weights(self, processed: Path, path: Path, device: Device) -> None:
        """Convert the published weights. Raises UserError when they cannot be had, or are not the published bytes."""
        from safetensors.torch import save_file

        state = self.rename(self.published.read(self.name))
        tensors = {name: state[name].float().contiguous() for name in self._blank().state_dict()}
        save_file(tensors, path, metadata={METADATA: json.dumps(asdict(self.view), sort_keys=True)})

    def load(self, weights: Path) -> Module:
        from safetensors.torch import load_file

        from ddpm.scoring.features import Viewed

        network = self._blank()
        network.load_state_dict(load_file(weights), assign=True)
        return Viewed(self.view, network).eval()

    def _blank(self) -> Module:
        import torch

        with torch.device("meta"):
            return self.network()
