"""A batch of images to learn from, and its random numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ddpm.base.sections import Shape
from ddpm.base.tensor import Tensor
from ddpm.diffusion.coefficients import Coefficients


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


@dataclass(frozen=True, eq=False)
class Draws:
    """The random numbers of some images at a step: functions of (seed, purpose, place, step), so that an image gets the
    same ones in any part of a batch and on any rank."""

    seed: int
    step: int
    place: Tensor  # (B,) int64, the images' places in the batch of all ranks
    rows: range  # the same, for the host
    shape: Shape  # of the images
    ahead: Callable[..., Tensor]  # ``noise.Ahead``

    def __getitem__(self, rows: slice) -> Draws:
        return replace(self, place=self.place[rows], rows=self.rows[rows])

    def uniform(self, purpose: str) -> Tensor:
        """(B,) draws in [0, 1)."""
        from ddpm.compute import noise

        draw = partial(noise.uniform, self.seed, purpose, self.place)
        return self.ahead((purpose, self.rows), self.step, draw)

    def gaussian(self, purpose: str) -> Tensor:
        """Standard normals of the images' shape."""
        from ddpm.compute import noise

        draw = partial(noise.gaussian, self.seed, purpose, self.place, shape=self.shape)
        return self.ahead((purpose, self.rows), self.step, draw)

    def one_of(self, count: int) -> slice:
        """Every ``count``-th row, starting where the step says: those where row + step is a multiple of it."""
        first = -(self.rows.start + self.step) % count
        return slice(first, None, count)


@dataclass(frozen=True, eq=False)
class Batch:
    """Images of one step. Parts of a batch are views of it."""

    x_0: Tensor  # (B, C, H, W) in [-1, 1]
    others: Tensor  # x_0 of the next places in the batch of all ranks; (0, C, H, W) unless the loss contrasts
    t: Tensor  # (B,) int64 in 1..T, drawn by the timestep sampler for the batch of all ranks
    weight: Tensor  # (B,) float32, of each image's loss in the mean over the batch
    labels: Tensor | None  # (B,) int64, of which some are the null class; None without classes
    condition: Tensor | None  # (B, conditions) float32, how each image was augmented
    dropout: Tensor  # (B, layers, 2) int32, the keys of the layers' masks
    draws: Draws

    def __len__(self) -> int:
        return len(self.x_0)

    def __getitem__(self, rows: slice) -> Batch:
        parts: dict[str, Any] = {name: value[rows] for name, value in vars(self).items() if value is not None}
        return replace(self, **parts)

    def split(self, parts: int) -> Iterator[Batch]:
        """Micro-batches as even as possible, the larger ones first."""
        size, more = divmod(len(self), parts)
        for part in range(parts):
            first = part * size + min(part, more)
            yield self[first : first + size + (part < more)]
