"""All distances between two sets of features, a block of rows at a time; and fixed parts of sets too large for that."""

from collections.abc import Iterator
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddpm.base.images import Images
from ddpm.compute import noise

ROWS = 1024  # of the matrix of distances in memory at once
MOST = 50_000  # of a set, whose pairs are compared; a larger set has a part of so many, and the fingerprint says so
SEED = 2020

Vectors = TypeVar("Vectors", Tensor, Images, NDArray[np.int64])


def square_distances(queries: Tensor, keys: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Blocks of (N, D) queries, and the squared distances of each to all (M, D) keys: (rows, M) float32, none negative.

    By float32 products of centred features: they resolve about 1e-6 of the features' squared length.
    """
    middle = keys.mean(0)
    keys = keys - middle
    lengths = keys.square().sum(1)
    for start in range(0, len(queries), ROWS):
        block = slice(start, min(start + ROWS, len(queries)))
        centred = queries[block] - middle
        products = torch.addmm(lengths, centred, keys.T, alpha=-2)
        yield block, products.add_(centred.square().sum(1, keepdim=True)).clamp_(min=0)


def neighbours(features: Tensor, k: int) -> Tensor:
    """The squared distances of (N, D) features to the k nearest others, (N, k), nearest first."""
    nearest = []
    for block, every in square_distances(features, features):
        every.diagonal(block.start).fill_(torch.inf)
        nearest.append(every.topk(k, largest=False).values)
    return torch.cat(nearest)


def rows(total: int, count: int) -> Tensor:
    """At most ``count`` of ``total`` rows, ascending: a choice by the hash of the row, the same on every machine."""
    if total <= count:
        return torch.arange(total)
    return noise.uniform(SEED, "part", torch.arange(total), 0).argsort()[:count].sort().values


def part(vectors: Vectors, count: int) -> Vectors:
    """At most ``count`` of N images, features or labels, (N, ...): the ``rows`` of them."""
    return vectors if len(vectors) <= count else vectors[rows(len(vectors), count)]
