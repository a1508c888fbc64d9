"""A batch of images to learn from, with the streams of its random numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ddpm.compute import noise
from ddpm.diffusion.chain import Chain
from ddpm.diffusion.coefficients import Coefficients, q_sample


@dataclass(frozen=True, eq=False)
class NoisyBatch:
    """x_0, epsilon and the x_t made of them, (B, C, H, W) each, and the chain's constants ``at`` each t, (B,) int64."""

    x_0: Tensor
    epsilon: Tensor
    x_t: Tensor
    t: Tensor
    at: Coefficients

    def __getitem__(self, rows: slice) -> NoisyBatch:
        at = Coefficients._make(constant[rows] for constant in self.at)
        return NoisyBatch(self.x_0[rows], self.epsilon[rows], self.x_t[rows], self.t[rows], at)


@dataclass(frozen=True, eq=False, kw_only=True)
class Batch:
    """Images of one step. Random numbers are functions of (seed, purpose, place, step), so an image gets the same ones
    in any part of a batch and on any rank. Parts of a batch are views of it."""

    x_0: Tensor  # (B, C, H, W) in [-1, 1]
    others: Tensor  # x_0 of the next places in the batch of all ranks; (0, C, H, W) unless the loss contrasts
    t: Tensor  # (B,) int64 in 1..T, drawn by the timestep sampler for the batch of all ranks
    weight: Tensor  # (B,) float32, of each image's loss in the mean over the batch
    labels: Tensor | None  # (B,) int64, of which some are the null class; None without classes
    condition: Tensor | None  # (B, conditions) float32, how each image was augmented
    dropout: Tensor  # (B, layers, 2) int32, the keys of the layers' masks
    place: Tensor  # (B,) int64, the images' places in the batch of all ranks
    rows: range  # the same, for the host
    seed: int
    step: int
    ahead: noise.Ahead
    done: float  # the share of the training's steps that came before this one
    perturbation: float = 0.0  # gamma of train.input_perturbation
    draws: int = 1  # train.noise_draws

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: slice) -> Batch:
        images: dict[str, Any] = {
            name: value for name, value in vars(self).items() if isinstance(value, Tensor | range)
        }
        return replace(self, **{name: value[rows] for name, value in images.items()})

    def split(self, parts: int) -> Iterator[Batch]:
        """That many micro-batches, as even as possible, the larger ones first."""
        size, more = divmod(len(self), parts)
        for part in range(parts):
            first = part * size + min(part, more)
            yield self[first : first + size + (part < more)]

    def one_of(self, count: int) -> slice:
        """The rows of one of ``count`` images in a row: those where row + step is a multiple of it."""
        first = -(self.rows.start + self.step) % count
        return slice(first, None, count)

    def uniform(self, purpose: str) -> Tensor:
        """(B,) draws in [0, 1)."""
        draw = partial(noise.uniform, self.seed, purpose, self.place)
        return self.ahead((purpose, self.rows), self.step, draw)

    def gaussian(self, purpose: str) -> Tensor:
        """Standard normals of the images' shape."""
        draw = partial(noise.gaussian, self.seed, purpose, self.place, shape=self.x_0.shape[1:])
        return self.ahead((purpose, self.rows), self.step, draw)

    def diffuse(self, chain: Chain, t: Tensor) -> NoisyBatch:
        """Draw epsilon, and make x_t of it: Algorithm 1, line 4, and equation 4.

        Of several ``draws`` it is the nearest to x_0: immiscible diffusion, Li et al. 2025 (arXiv:2505.18521). With a
        ``perturbation``, x_t has more noise than epsilon, which stays what there is to learn. Ning et al. 2023
        (arXiv:2301.11706), Algorithm 3.
        """
        at, epsilon = chain.at(t), self.gaussian("train")
        for draw in range(1, self.draws):
            other = self.gaussian(f"train/{draw}")
            far, near = ((each - self.x_0).flatten(1).norm(dim=1) for each in (epsilon, other))
            epsilon = torch.where((near < far)[:, None, None, None], other, epsilon)
        perturbed = epsilon + self.perturbation * self.gaussian("perturbation") if self.perturbation else epsilon
        return NoisyBatch(self.x_0, epsilon, q_sample(self.x_0, perturbed, at), t, at)
