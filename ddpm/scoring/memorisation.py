"""Whether samples are copies of train images: how close the nearest one is, in pixels and in an extractor's features.

The yardstick is how close held-out real images come to the train split, as in Meehan, Chaudhuri, Dasgupta 2020
(arXiv:2004.05675). Distances are relative to those of the next train images, as in Carlini et al. 2023
(arXiv:2301.13188), because a blurred or flat image is close to everything and a copy of nothing.
"""

from bisect import bisect_left
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

ROWS = 4096  # on either side in memory at once: 50,000 x 50,000 distances would take 10 GB
NEIGHBOURS = 50  # as in Carlini et al.: so many that a duplicate in the train split does not hide copies of the image
NEAR = 0.05  # a sample counts as near if it is nearer than all but this share of held-out images
ALLOWED = 2  # times the held-out images' rate at which samples may be near
CHANCE = 0.05  # of reporting copies in a model whose samples are near at just the allowed rate
QUANTILES = 1000  # of a distribution, to average over it


Vectors = NDArray[np.generic] | Tensor


class Nearest(NamedTuple):
    """For each of N: the Euclidean distance to the nearest train image, (N,) float64, and its row, (N,) int64.

    relative: (N,) float64, that distance over the mean distance to the NEIGHBOURS nearest: 0 for a copy, at most 1.
    """

    distance: NDArray[np.float64]
    row: NDArray[np.int64]
    relative: NDArray[np.float64]


def nearest(queries: Vectors, train: Vectors, device: torch.device) -> Nearest:
    """The nearest of ``train``, (M, ...), to each of ``queries``, (N, ...) of the same shape.

    The search uses float32 matrix products, which resolve near-ties to about 1e-3 of the vectors' length. The distance
    to the match is then computed from the difference itself, so that a copy is at exactly 0.
    """
    middle = _rows(train[:ROWS], device).mean(0)  # products of centred vectors lose fewer digits
    nearest, indices, typical = [], [], []
    for first in range(0, len(queries), ROWS):
        block = _rows(queries[first : first + ROWS], device)
        centred = block - middle
        best = torch.full((len(block),), torch.inf, device=device)
        at = torch.zeros(len(block), dtype=torch.int64, device=device)
        around = torch.empty(len(block), 0, device=device)
        for start in range(0, len(train), ROWS):
            keys = _rows(train[start : start + ROWS], device) - middle
            # the squared distance without the query's own square, which does not change the minimum
            every = keys.square().sum(1) - 2 * centred @ keys.T
            least, here = every.min(1)
            at = torch.where(least < best, start + here, at)
            best = torch.minimum(best, least)
            nearby = every.topk(min(NEIGHBOURS, len(keys)), largest=False).values
            around = torch.cat([around, nearby], 1).sort(1).values[:, :NEIGHBOURS]
        matched = _rows(train[at.cpu().numpy()], device)
        nearest.append((block.double() - matched.double()).square().sum(1).sqrt().cpu())
        indices.append(at.cpu())
        typical.append((around + centred.square().sum(1, keepdim=True)).clamp(min=0).double().sqrt().mean(1).cpu())
    distance, mean = torch.cat(nearest).numpy(), torch.cat(typical).numpy()
    # rounding must not turn a copy's ratio into 0 / 0, nor raise any ratio above 1
    relative = np.divide(distance, np.maximum(mean, distance), out=np.zeros_like(distance), where=distance > 0)
    return Nearest(distance, torch.cat(indices).numpy(), relative)


def _rows(vectors: Vectors, device: torch.device) -> Tensor:
    """(N, D) float32."""
    tensor = vectors if isinstance(vectors, Tensor) else torch.from_numpy(np.array(vectors))
    return tensor.to(device).flatten(1).float()


def authentic(samples: Nearest, apart: NDArray[np.float64]) -> float:
    """The share of images that are further from their nearest train image than that one is from every other: AuthPct of
    Alaa et al. 2022 (arXiv:2102.08921). apart: (N,), the distance of those train images to their nearest other."""
    return float(np.mean(samples.distance > apart))


def closeness(samples: Nearest, held_out: Nearest, new: NDArray[np.bool_]) -> dict[str, float]:
    """How close samples come in one space; empty if the held-out images give no distance to compare with.

    share: of the samples whose relative distance is below that of all but the nearest 5% of held-out images; expected:
    that share for a model that draws new images; limit: a share above it means that train images are copied; ratio: the
    samples' median distance over the held-out images', 1 for new images, 0 for copies. ``new``, (held-out images,),
    excludes exact copies of train images, because datasets contain duplicates.
    """
    real = np.sort(held_out.relative[new])
    k = max(1, int(NEAR * (len(real) + 1)))
    if not len(real) or real[k - 1] == 0:
        return {}
    return {
        "share": float(np.mean(samples.relative < real[k - 1])),
        "expected": k / (len(real) + 1),
        "limit": largest_share(len(samples.relative), k, len(real)),
        "ratio": float(np.median(samples.distance) / np.median(held_out.distance[new])),
    }


@cache
def largest_share(samples: int, k: int, held_out: int) -> float:
    """The largest share of samples below the held-out images' k-th smallest value that is not a sign of copies.

    The chance that another held-out image is below that value has the distribution Beta(k, held_out + 1 - k), whatever
    the values' distribution (Wilks 1942). If a model's samples have up to ALLOWED times that chance, its share exceeds
    the limit with a probability of at most CHANCE; for models that draw as the data do, that is less than one in 100.
    The factor allows for models that copy nothing but whose images differ from the data's.
    """
    from scipy import special  # not stats, whose import takes a second

    chance = ALLOWED * special.betaincinv(k, held_out + 1 - k, (np.arange(QUANTILES) + 0.5) / QUANTILES)
    beyond = np.minimum(chance, 1)
    return bisect_left(range(samples), 1 - CHANCE, key=lambda n: special.bdtr(n, samples, beyond).mean()) / samples
