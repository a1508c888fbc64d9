"""The network of Components: see ddpm/variants/extractors/components.py."""

import numpy as np
import torch
from scipy import linalg
from torch import Tensor, nn

from ddpm.base.images import Images
from ddpm.scoring import distances
from ddpm.scoring.features import Features

SEEN = 2000  # images that the components come from, at most: the eigenvalue problem is of this size or the pixels'
DIGITS = 2.0**12  # to whose inverse weights are rounded


def fit(images: Images, dimensions: int) -> dict[str, Tensor]:
    """``mean``, (P,) levels, and ``basis``, (P, D), for (N, C, H, W) images of P values; columns beyond the rank of the
    pixels are 0.

    The larger of the eigenvalue problem's two sides, pixels or images, is never formed; signs are chosen so that each
    component's largest entry is positive.
    """
    pixels = np.array(distances.part(images, SEEN)).reshape(-1, images[0].size).astype(np.float64)
    mean = pixels.mean(0).round()
    centred = pixels - mean
    wide = centred.shape[1] > len(centred)
    products = centred @ centred.T if wide else centred.T @ centred
    last = len(products) - 1
    values, vectors = linalg.eigh(products, subset_by_index=[max(0, last + 1 - dimensions), last])
    kept = int((values > values[-1] * 1e-9).sum())
    values, vectors = values[::-1][:kept], vectors[:, ::-1][:, :kept]
    if wide:
        vectors = centred.T @ vectors / np.sqrt(values)
    signs = np.sign(np.take_along_axis(vectors, abs(vectors).argmax(0)[None], 0))
    basis = np.zeros((centred.shape[1], dimensions))
    basis[:, :kept] = (vectors * signs * DIGITS).round() / DIGITS + 0.0  # -0, a rounding error's sign, becomes 0
    scale = 2.0 ** np.log2(max(np.sqrt(values.sum() / len(centred) / dimensions), 1e-3)).round()
    return {"mean": torch.from_numpy(mean).float(), "basis": torch.from_numpy(basis / scale).float()}


class ComponentsNetwork(nn.Module):
    """uint8 (B, C, H, W) to Features, (B, D)."""

    def __init__(self, tensors: dict[str, Tensor]):
        super().__init__()
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)

    def forward(self, images: Tensor) -> Features:
        features = (images.flatten(1).float() - self.get_buffer("mean")) @ self.get_buffer("basis")
        return Features(features, features[:, :0])
