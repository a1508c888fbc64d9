"""Images of a Gaussian mixture, a class per component, of which the perfect denoiser is known. Our own."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from ddpm.base.errors import UserError
from ddpm.base.sections import Positive, Shape
from ddpm.base.tensor import Tensor
from ddpm.sources.dataset import Dataset, Originals

FILE = "mixture.npz"
COARSE = 4  # values a side from which each mean is interpolated
LARGEST_MEAN = 0.5  # of [-1, 1]
MAX_BYTES = 2**31
CHUNK = 256  # images drawn at a time

Side = Annotated[int, Field(ge=1, le=1024)]


@dataclass(frozen=True, eq=False)
class GaussianMixture:
    """K components over images of any ``shape``, D pixels in all; everything is float64. Component k has the mean mu_k
    and the covariance S_k = diag(variances_k) + factors_k factors_k^T.

    weights: (K,), they add up to 1. means: (K, *shape). variances: (K, D), positive. factors: (K, D, r).
    """

    weights: Tensor
    means: Tensor
    variances: Tensor
    factors: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return self.means.shape[1:]

    def draw(self, labels: Tensor, pixel_noise: Tensor, factor_noise: Tensor) -> Tensor:
        """x_0 of the components ``labels``, (B,), from standard normals, (B, D) and (B, r)."""
        spread = self.variances[labels].sqrt() * pixel_noise
        spread = spread + (self.factors[labels] @ factor_noise[..., None])[..., 0]
        return self.means[labels] + spread.unflatten(1, self.shape)


class Mixture(Dataset):
    """``count`` images of ``size`` (height, width), drawn by ``seed``: the same for everyone, with no download.

    ``truth`` is their distribution. Means are smooth random images within +-0.5; around them, each pixel varies by at
    most ``spread``: by half of it independently, and by the rest along one smooth image per component. [-1, 1] is at
    least five standard deviations away, so fewer than 3 in 10 million pixels are clipped. Rounding to 256 levels adds a
    variance of 5e-6 to each pixel. ``ratio`` is each component's share over that of the one before.

    data.image_size and data.channels must be the ones given here: resized images would have another distribution.
    """

    licence = "Apache-2.0, as this project"

    components: Annotated[int, Field(ge=1, le=1000)] = 4
    count: Positive = 2000
    size: tuple[Side, Side] = (16, 16)
    channels: Annotated[int, Field(ge=1, le=64)] = 1
    spread: Annotated[float, Field(ge=0.02, le=0.1)] = 0.1
    ratio: Annotated[float, Field(gt=0.1, le=1)] = 1.0
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for field, images in {"count": self.count, "components": 8 * self.components}.items():  # means are float64
            if images * math.prod(self.size) * self.channels > MAX_BYTES:
                raise ValueError(
                    f"{field}: {getattr(self, field)} images of {self.size[0]}x{self.size[1]}x{self.channels} are more "
                    f"than {MAX_BYTES:,} bytes; lower {field}, size or channels"
                )
        return self

    def refusals(self, image: Shape) -> Iterator[str]:
        shape = Shape(self.channels, *self.size)
        if image != shape:
            yield (
                f"image_size: {image.image_size} and channels: {image.channels} are not the mixture's own, and "
                f"resizing would make another distribution; allowed: {shape.image_size} and {shape.channels}, as "
                "dataset.mixture.size and channels say"
            )

    def fetch(self, source: str | None, folder: Path) -> None:
        if source is not None:
            raise UserError(f"data.source: {source!r} is not allowed: a mixture is drawn by its seed; set it to null")
        import torch

        truth, random = self.truth(), np.random.RandomState((self.seed, 1))
        labels = random.choice(self.components, self.count, p=truth.weights.numpy())
        pixels, rank = truth.variances.shape[1], truth.factors.shape[2]
        images = np.empty((self.count, *self.size, self.channels), np.uint8)
        for first in range(0, self.count, CHUNK):
            components = torch.from_numpy(labels[first : first + CHUNK])
            normals = torch.from_numpy(random.standard_normal((len(components), pixels + rank)))
            x_0 = truth.draw(components, normals[:, :pixels], normals[:, pixels:]).movedim(1, -1)
            images[first : first + CHUNK] = ((x_0 + 1) * 127.5).round().clamp(0, 255).numpy()
        np.savez(folder / FILE, images=images[..., 0] if self.channels == 1 else images, labels=labels)

    def read(self, raw: Path) -> Originals:
        with np.load(raw / FILE, allow_pickle=False) as drawn:
            splits = {"mixture": (drawn["images"], drawn["labels"])}
        return Originals.of_arrays(splits, tuple(f"component {k}" for k in range(self.components)))

    def truth(self) -> GaussianMixture:
        """The distribution of x_0, (channels, height, width) in [-1, 1], before it is rounded to 256 levels."""
        import torch

        # numpy promises that RandomState's numbers never change, as default_rng's may
        random = np.random.RandomState((self.seed, 0))
        means, factors = (np.stack([self._smooth(random) for _ in range(self.components)]) for _ in range(2))
        weights = self.ratio ** np.arange(self.components)
        return GaussianMixture(
            weights=torch.from_numpy(weights / weights.sum()),
            means=torch.from_numpy(LARGEST_MEAN * means),
            variances=torch.full((self.components, means[0].size), self.spread**2 / 4, dtype=torch.float64),
            factors=torch.from_numpy(self.spread * math.sqrt(3 / 4) * factors).flatten(1)[..., None],
        )

    def _smooth(self, random: np.random.RandomState) -> NDArray[np.float64]:
        """(channels, height, width) in [-1, 1], interpolated from uniform values on a grid of at most COARSE a side."""
        sides = [min(side, COARSE) for side in self.size]
        rows, columns = (
            np.stack([np.interp(np.linspace(0, n - 1, side), np.arange(n), unit) for unit in np.eye(n)], axis=1)
            for n, side in zip(sides, self.size, strict=True)
        )
        return np.einsum("chw,yh,xw->cyx", random.uniform(-1, 1, (self.channels, *sides)), rows, columns)
