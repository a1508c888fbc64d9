"""Whether samples are copies of train images: how close the nearest one is, in pixels and in an extractor's features.

The yardstick is how close held-out real images come to the train split, as in Meehan, Chaudhuri, Dasgupta 2020
(arXiv:2004.05675). Distances are relative to those of the next train images, as in Carlini et al. 2023
(arXiv:2301.13188), because a blurred or flat image is close to everything and a copy of nothing.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import special  # not stats, whose import takes a second
from torch import Tensor, nn

from ddpm.base.images import Images
from ddpm.scoring import extractor, neighbours

ROWS = 4096  # on either side in memory at once: 50,000 x 50,000 distances would take 10 GB
NEIGHBOURS = 50  # as in Carlini et al.: so many that a duplicate in the train split does not hide copies of the image
CANDIDATES = 1024  # of an index, for each query
REMADE = 64  # of those whose features must be made again
NEAR = 0.05  # a sample counts as near if it is nearer than all but this share of held-out images
ALLOWED = 2  # times the held-out images' rate at which samples may be near
CHANCE = 0.05  # of reporting copies in a model whose samples are near at just the allowed rate
QUANTILES = 1000  # of a distribution, to average over it


@dataclass(frozen=True)
class Remade:
    """The features of images that are not kept: those that are asked for are made again."""

    network: nn.Module
    images: Images
    batch_size: int
    device: torch.device

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: Any, /) -> Tensor:
        return extractor.extract(self.network, self.images[rows], self.batch_size, self.device).features


Vectors = Images | NDArray[np.generic] | Tensor | Remade


class Nearest(NamedTuple):
    """For each of N: the Euclidean distance to the nearest train image, (N,) float64, and its row, (N,) int64.

    relative: (N,) float64, that distance over the mean distance to the NEIGHBOURS nearest: 0 for a copy, at most 1.
    """

    distance: NDArray[np.float64]
    row: NDArray[np.int64]
    relative: NDArray[np.float64]


def nearest(
    queries: Vectors,
    train: Vectors,
    device: torch.device,
    index: Sequence[Path] = (),
    own: NDArray[np.int64] | None = None,
) -> Nearest:
    """The nearest of ``train``, (M, ...), to each of ``queries``, (N, ...) of the same shape. index: the files of the
    ``neighbours`` index of ``train``, if it has one. own: (N,), the queries' own rows of ``train``, which do not count.

    The search uses float32 matrix products, which resolve near-ties to about 1e-3 of the vectors' length. The distance
    to the match is then computed from the difference itself, so that a copy is at exactly 0. By an index, distances to
    CANDIDATES train images, or REMADE, are computed from differences, and others do not count.
    """
    if index:
        blocks = [slice(first, first + ROWS) for first in range(0, len(queries), ROWS)]
        parts = (_of_candidates(queries[at], train, device, index, None if own is None else own[at]) for at in blocks)
        return Nearest(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    middle = _rows(train[:ROWS], device).mean(0)  # products of centred vectors lose fewer digits
    nearest, indices, typical = [], [], []
    for first in range(0, len(queries), ROWS):
        chosen = _rows(queries[first : first + ROWS], device)
        centred = chosen - middle
        best = torch.full((len(chosen),), torch.inf, device=device)
        at = torch.zeros(len(chosen), dtype=torch.int64, device=device)
        around = torch.empty(len(chosen), 0, device=device)
        for start in range(0, len(train), ROWS):
            keys = _rows(train[start : start + ROWS], device) - middle
            # the squared distance without the query's own square, which does not change the minimum
            every = keys.square().sum(1) - 2 * centred @ keys.T
            if own is not None:
                itself = own[first : first + ROWS] - start
                inside = np.flatnonzero((itself >= 0) & (itself < len(keys)))
                every[inside, itself[inside]] = torch.inf
            found, here = every.min(1)
            at = torch.where(found < best, start + here, at)
            best = torch.minimum(best, found)
            nearby = every.topk(min(NEIGHBOURS, len(keys)), largest=False).values
            around = torch.cat([around, nearby], 1).sort(1).values[:, :NEIGHBOURS]
        matched = _rows(train[at.cpu().numpy()], device)
        nearest.append((chosen.double() - matched.double()).square().sum(1).sqrt().cpu())
        indices.append(at.cpu())
        typical.append((around + centred.square().sum(1, keepdim=True)).clamp(min=0).double().sqrt().mean(1).cpu())
    distance, mean = torch.cat(nearest).numpy(), torch.cat(typical).numpy()
    return Nearest(distance, torch.cat(indices).numpy(), _relative(distance, mean))


def _of_candidates(
    queries: Vectors, train: Vectors, device: torch.device, index: Sequence[Path], own: NDArray[np.int64] | None
) -> Nearest:
    count = REMADE if isinstance(train, Remade) else CANDIDATES
    candidates = neighbours.candidates(index, neighbours.coarse(_tensor(queries)), count)
    distance, row, mean = np.empty(len(queries)), np.empty(len(queries), np.int64), np.empty(len(queries))
    for first in range(0, len(queries), ROWS // count):
        rows, places = np.unique(candidates[first : first + ROWS // count], return_inverse=True)
        keys = _rows(train[np.maximum(rows, 0)], device)  # -1 is no row
        chosen = _rows(queries[first : first + ROWS // count], device).double()
        for query, (vector, some) in enumerate(zip(chosen, places.reshape(len(chosen), -1), strict=True), first):
            others = np.sort(some[(candidates[query] >= 0) & (own is None or candidates[query] != own[query])])
            every = (keys[others].double() - vector).square().sum(1).sqrt().cpu().numpy()
            row[query], distance[query] = rows[others[every.argmin()]], every.min()
            mean[query] = np.sort(every)[:NEIGHBOURS].mean()
    return Nearest(distance, row, _relative(distance, mean))


def _relative(distance: NDArray[np.float64], mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rounding must not turn a copy's ratio into 0 / 0, nor raise any ratio above 1."""
    return np.divide(distance, np.maximum(mean, distance), out=np.zeros_like(distance), where=distance > 0)


class Space(NamedTuple):
    """The train images in pixels or in an extractor's features, and the index of them: what ``nearest`` searches."""

    train: Vectors
    device: torch.device
    indexed: tuple[Path, ...] = ()

    def search(self, queries: Vectors) -> dict[str, Any]:
        """``nearest``, by field: what ``Ranks.each`` can send."""
        return nearest(queries, *self)._asdict()

    def apart(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """(N,), the distances of those train images to their nearest other."""
        own, at = np.unique(rows, return_inverse=True)
        return nearest(self.train[own], *self, own).distance[at]


def _tensor(vectors: Vectors) -> Tensor:
    return vectors if isinstance(vectors, Tensor) else torch.from_numpy(np.array(vectors))


def _rows(vectors: Vectors, device: torch.device) -> Tensor:
    """(N, D) float32."""
    return _tensor(vectors).to(device).flatten(1).float()


def authentic(found: Nearest, apart: NDArray[np.float64]) -> float:
    """The share of images that are further from their nearest train image than that one is from every other: AuthPct of
    Alaa et al. 2022 (arXiv:2102.08921). apart: (N,), the distance of those train images to their nearest other."""
    return float(np.mean(found.distance > apart))


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
    chance = ALLOWED * special.betaincinv(k, held_out + 1 - k, (np.arange(QUANTILES) + 0.5) / QUANTILES)
    beyond = np.minimum(chance, 1)
    return bisect_left(range(samples), 1 - CHANCE, key=lambda n: special.bdtr(n, samples, beyond).mean()) / samples
