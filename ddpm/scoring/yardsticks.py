"""Images that need no network: draws from a Gaussian fitted to the train images, and from one per class.

They are scored like samples. A gap between two models that score worse than the Gaussian, which knows a mean and a
covariance alone, is not a finding (ddpm/verdicts/verdict.py).
"""

import numpy as np
import torch
from numpy.typing import NDArray

from ddpm.base.images import Images
from ddpm.compute import noise
from ddpm.scoring import distances

GAUSSIAN = "gaussian"
PER_CLASS = "class_gaussians"
NAMES = GAUSSIAN, PER_CLASS
FEWEST, MOST = 1500, 5000  # images of each: as many as the train images, within these limits
FITTED = 10_000  # train images that a Gaussian is fitted to; of more, a fixed part
ROWS = 512  # train images, and draws, at once
SEED = 2020


def draw(images: Images, labels: NDArray[np.int64]) -> dict[str, Images]:
    """Draws of each yardstick, uint8 (M, C, H, W): the Gaussian of all train images and, if there are classes, one
    Gaussian of each class, whose draws have the train images' shares of the classes.

    images: (N, C, H, W) uint8, the train images; labels: (N,). The first draws are the same for every M.
    """
    index = torch.arange(min(max(len(images), FEWEST), MOST))
    every = np.zeros_like(labels)
    draws = {GAUSSIAN: _draw(GAUSSIAN, images, every, every[:1].repeat(len(index)), index)}
    if len(np.unique(labels)) > 1:
        classes = labels[(noise.uniform(SEED, "yardstick classes", index, 0) * len(labels)).long().numpy()]
        draws[PER_CLASS] = _draw(PER_CLASS, images, labels, classes, index)
    return draws


def _draw(
    purpose: str, images: Images, labels: NDArray[np.int64], classes: NDArray[np.int64], index: torch.Tensor
) -> Images:
    """A draw for each of ``index`` from the Gaussian of the train images whose label is its entry of ``classes``."""
    drawn = np.empty((len(index), *images.shape[1:]), np.uint8)
    for label in np.unique(classes):
        places = np.flatnonzero(classes == label)
        drawn[places] = gaussian(images, np.flatnonzero(labels == label), index[places], purpose)
    return drawn


def gaussian(images: Images, rows: NDArray[np.int64], index: torch.Tensor, purpose: str) -> Images:
    """Draws from the Gaussian with the mean and the covariance of the pixels of ``images[rows]``, rounded and clipped
    to the 256 levels as samples are: (len(index), C, H, W) uint8.

    A draw is the mean plus every image's deviation from it, each times a standard normal over sqrt(N). That is exact,
    and never forms the covariance, which has 150 million entries for RGB images of 64x64.
    """
    rows = distances.part(rows, FITTED)
    blocks = np.split(rows, range(ROWS, len(rows), ROWS))

    def pixels(block: NDArray[np.int64]) -> torch.Tensor:
        return torch.from_numpy(np.array(images[block])).flatten(1).double()

    mean = torch.stack([pixels(block).sum(0) for block in blocks]).sum(0) / len(rows)
    drawn = []
    for some in index.split(ROWS):
        deviation = torch.zeros(len(some), len(mean), dtype=torch.float64)
        for step, block in enumerate(blocks):
            weights = noise.gaussian(SEED, f"yardstick {purpose}", some, step, (len(block),))
            deviation += weights.double() @ (pixels(block) - mean)
        drawn.append((mean + deviation / len(rows) ** 0.5).round().clamp(0, 255).to(torch.uint8))
    return torch.cat(drawn).view(-1, *images.shape[1:]).numpy()
