"""Whether samples are copies of train images: how near the nearest one is, in pixels and in an extractor's features.

The measure of nearness is the data's own: how near real images that were held out come to the train split.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

ROWS = 4096  # of either side held at once: 50,000 x 50,000 distances would take 10 GB

Vectors = NDArray[np.generic] | Tensor


class Nearest(NamedTuple):
    """Of each of N: the Euclidean distance to the nearest train image, (N,) float64, and its row, (N,) int64."""

    distance: NDArray[np.float64]
    row: NDArray[np.int64]


def nearest(queries: Vectors, train: Vectors, device: torch.device) -> Nearest:
    """The nearest of ``train``, (M, ...), to each of ``queries``, (N, ...) of the same shape.

    Found by float32 matrix products, which tell near-ties apart to about 1e-3 of the vectors' length; the distance to
    the one that is found is computed from the difference itself, so that a copy is at 0 exactly.
    """
    middle = _rows(train[:ROWS], device).mean(0)  # products of centred vectors lose fewer digits
    distances, indices = [], []
    for first in range(0, len(queries), ROWS):
        chosen = _rows(queries[first : first + ROWS], device)
        centred = chosen - middle
        best = torch.full((len(chosen),), torch.inf, device=device)
        index = torch.zeros(len(chosen), dtype=torch.int64, device=device)
        for start in range(0, len(train), ROWS):
            keys = _rows(train[start : start + ROWS], device) - middle
            # squared distance less the query's own square, which moves no minimum
            found, at = (keys.square().sum(1) - 2 * centred @ keys.T).min(1)
            index = torch.where(found < best, start + at, index)
            best = torch.minimum(best, found)
        matched = _rows(train[index.cpu().numpy()], device)
        distances.append((chosen.double() - matched.double()).square().sum(1).sqrt().cpu())
        indices.append(index.cpu())
    return Nearest(torch.cat(distances).numpy(), torch.cat(indices).numpy())


def _rows(vectors: Vectors, device: torch.device) -> Tensor:
    """(N, D) float32."""
    tensor = vectors if isinstance(vectors, Tensor) else torch.from_numpy(np.array(vectors))
    return tensor.to(device).flatten(1).float()


def closeness(samples: Nearest, held_out: Nearest, new: NDArray[np.bool_]) -> dict[str, float]:
    """``share`` and ``ratio`` in one space; empty where the held-out images give no distance to measure by.

    share: of the samples that are nearer to a train image than any held-out image is; about 1 / (held-out images + 1)
    for a model that draws new images, near 1 for one that copies. ratio: the samples' median distance over the
    held-out images': 1 for new images, 0 for copies. ``new``, (held-out images,), leaves out those that are a train
    image to the bit: datasets hold some twice, and beside them no copy would be near.
    """
    real = held_out.distance[new]
    if not len(real) or np.median(real) == 0:
        return {}
    return {
        "share": float(np.mean(samples.distance < real.min())),
        "ratio": float(np.median(samples.distance) / np.median(real)),
    }
