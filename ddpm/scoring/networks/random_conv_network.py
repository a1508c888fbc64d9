"""The network of RandomConv: see ddpm/variants/extractors/random_conv.py."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm.base.images import Images
from ddpm.compute import noise
from ddpm.scoring.features import Features, extract

SEED = 0
WIDTH = 16
KERNEL = 3
SCALES = (1, 4)  # the image, and its means over blocks of 4 x 4 pixels
GRID = 2  # means are taken over each quarter of the image
BATCH = 256
SEEN = 5000  # images that means and scales come from, at most: each takes a pass of its own
LEAST = 1 / 16  # of the median scale: a feature that hardly varies in the train split must not outweigh the others
STEP = 2.0**-8  # of a response, for images that are all the same
CACHED = 2**14  # pixels of as many images as a CPU passes at once: their WIDTH responses, 1 MiB, stay in its cache
LANES = 4  # a CPU's kernels round the last few images of a batch differently, unless there are a multiple of so many


def fit(images: Images, device: torch.device) -> dict[str, Tensor]:
    """A RandomConvNetwork's tensors: the filters for (N, C, H, W) images, and each feature's rounded mean and
    scale over them."""
    filters = draw_filters(images.shape[1])
    some = images[:: -(-len(images) // SEEN)]
    features = extract(blank(filters), some, BATCH, device).features.double()
    spread = features.std(dim=0, correction=0)
    scale = 2.0 ** spread.clamp(min=LEAST * max(float(spread.median()), STEP)).log2().round()
    mean = (features.mean(dim=0) / scale * 8).round() / 8 * scale
    return filters | {"mean": mean.float(), "scale": scale.float()}


def blank(filters: dict[str, Tensor]) -> RandomConvNetwork:
    """The network whose features are neither centred nor scaled."""
    return RandomConvNetwork(filters | {"mean": torch.zeros(()), "scale": torch.ones(())})


def draw_filters(channels: int) -> dict[str, Tensor]:
    """Two layers of filters for each scale, (WIDTH, channels or WIDTH, KERNEL, KERNEL)."""
    filters = {}
    for scale in SCALES:
        for layer, inputs in enumerate((channels, WIDTH)):
            normals = noise.gaussian(SEED, f"{scale}/{layer}", torch.arange(WIDTH), 0, (inputs, KERNEL, KERNEL))
            filters[f"filters.{scale}.{layer}"] = normals * (2 / (inputs * KERNEL**2)) ** 0.5
    return filters


class RandomConvNetwork(nn.Module):
    """uint8 (B, C, H, W) to Features: at each scale, the means of WIDTH responses over each part of the image, and
    their standard deviations over the whole."""

    def __init__(self, tensors: dict[str, Tensor]):
        super().__init__()
        for name, tensor in tensors.items():
            self.register_buffer(name.replace(".", "_"), tensor)

    def forward(self, images: Tensor) -> Features:
        filled = F.pad(images, [0] * 7 + [-len(images) % LANES])
        at_once = len(filled) if images.is_cuda else max(1, CACHED // images[0, 0].numel() // LANES) * LANES
        responses = torch.cat([self._responses(part) for part in filled.split(at_once)])[: len(images)]
        features = (responses - self.get_buffer("mean")) / self.get_buffer("scale")
        return Features(features, features[:, :0])

    def _responses(self, images: Tensor) -> Tensor:
        pixels = images.float() / 127.5 - 1
        parts = []
        for scale in SCALES:
            responses = F.avg_pool2d(pixels, scale, ceil_mode=True)
            for layer in range(2):
                padded = F.pad(responses, [KERNEL // 2] * 4, mode="replicate")
                responses = F.conv2d(padded, self.get_buffer(f"filters_{scale}_{layer}")).relu_()
            places = responses.flatten(2)
            # Tensor.std is several times slower
            spread = torch.linalg.vector_norm(places - places.mean(2, keepdim=True), dim=2) / places.shape[2] ** 0.5
            parts += [F.adaptive_avg_pool2d(responses, GRID).flatten(1), spread]
        return torch.cat(parts, dim=1)
