"""The Fréchet distance against the number of images it is measured on, and its limit.

Measured on N images the distance is too large by about c / N, and c depends on the model, so distances at one N may
rank two models wrongly. Chong & Forsyth 2020 (arXiv:1911.07023) measure it at several N, fit a straight line in 1 / N
and take the intercept.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_fidelity.metric_fid import fid_features_to_statistics

from ddpm.scoring import distances

ROWS = 4096  # in float64 at once
PARTS = 4  # distances are measured on N, N / 2, ... N / PARTS images: evenly spaced in 1 / N
SHUFFLES = 4  # times that the images are shuffled and cut into parts
PER_FEATURE = 2  # images per feature that the smallest parts need: with fewer, the line bends
SEED = 2020


def statistics(features: Tensor) -> dict[str, NDArray[np.floating]]:
    """``mu``, (D,), and ``sigma``, (D, D), the mean and covariance of (N, D) features.

    By torch-fidelity, which copies them all to float64 for the covariance, but means in their own float32. Of more than
    ``distances.MOST`` by merge_moments, in float64.
    """
    if len(features) <= distances.MOST:
        whole: dict[str, NDArray[np.floating]] = fid_features_to_statistics(features)
        return whole
    return merge_moments(features.split(ROWS))


def merge_moments(blocks: Iterable[Tensor]) -> dict[str, NDArray[np.floating]]:
    """``mu``, (D,), and ``sigma``, (D, D), float64, of features that come in blocks, of ROWS each but the last.

    Each block is summed in float64, and its moments are merged with those before: Chan, Golub & LeVeque 1979, equation
    2.1. So neither batches nor ranks change anything.
    """
    count, mu, scatter = 0, torch.zeros(()), torch.zeros(())
    for block in blocks:
        double = block.double()
        mean = double.mean(0)
        step, centred = mean - mu, double - mean
        count += len(block)
        mu = mu + step * len(block) / count
        between = step.outer(step) * (count - len(block)) * len(block) / count
        scatter = scatter + (centred.T @ centred + between)
    return {"mu": mu.numpy(), "sigma": (scatter / (count - 1)).numpy()}


class Distance:
    """The squared Fréchet distance of features to N(mu, sigma), (D,) and (D, D), in float64 on ``device``.

    Dowson & Landau 1982. The root of the covariances' product uses the eigenvalues of a symmetric matrix, which are
    real even with fewer images than features.
    """

    def __init__(self, mu: NDArray[np.floating], sigma: NDArray[np.floating], device: torch.device):
        self.mu = torch.from_numpy(mu).to(device, torch.float64)
        self.sigma = torch.from_numpy(sigma).to(device, torch.float64)
        values, vectors = torch.linalg.eigh(self.sigma)
        self.root = vectors * values.clamp(min=0).sqrt() @ vectors.T

    def __call__(self, features: Tensor) -> float:
        """features: (N, D), N of at least 2."""
        features = features.to(self.mu)
        sigma = torch.cov(features.T)
        product = torch.linalg.eigvalsh(self.root @ sigma @ self.root).clamp(min=0).sqrt().sum()
        distance = (features.mean(0) - self.mu).square().sum() + sigma.trace() + self.sigma.trace() - 2 * product
        return float(distance)


@dataclass(frozen=True)
class Curve:
    """The distance against the number of images.

    n: (S,) descending. fd, fd_sd: (S,) the mean and standard deviation over disjoint parts of n images; fd_sd is nan
    if there is only one part. infinity: the intercept of the line in 1 / n. infinity_se: its standard error over draws
    of the images, with the real ones fixed.
    """

    n: NDArray[np.int64]
    fd: NDArray[np.float64]
    fd_sd: NDArray[np.float64]
    infinity: float
    infinity_se: float


def is_enough(count: int, dimensions: int) -> bool:
    """Whether the smallest parts of ``count`` images are large enough for a straight line."""
    return count // PARTS >= PER_FEATURE * dimensions


def extrapolate(features: Tensor, distance: Distance) -> Curve:
    """FD-infinity of (N, D) features, by least squares over N, N / 2, ... N / PARTS images; the same each time.

    Rows must be drawn independently: parts of a stratified split vary more than the whole, and the intercept is too
    low. The line's residuals say nothing about its error, because all sizes share their images. The standard deviation
    over disjoint parts of one size, divided by the root of their number, is the standard error of the distance on all
    of them; ``infinity_se`` is its root mean square over the sizes. This is conservative: 1 to 1.7 times the true error
    in tests with repeated draws, and the most where the distance is close to 0.
    """
    generator = np.random.default_rng(SEED)
    n, fd, fd_sd = [len(features)], [distance(features)], [np.nan]
    errors = []
    for parts in range(2, PARTS + 1):
        size = len(features) // parts
        values = []
        for _ in range(SHUFFLES):
            order = torch.from_numpy(generator.permutation(len(features))).to(features.device)
            values += [distance(features[part]) for part in order[: parts * size].split(size)]
        n.append(size)
        fd.append(float(np.mean(values)))
        fd_sd.append(float(np.std(values, ddof=1)))
        errors.append(fd_sd[-1] / parts**0.5)
    intercept = np.polynomial.polynomial.polyfit(1 / np.array(n), fd, 1)[0]
    se = float(np.sqrt(np.mean(np.square(errors))))
    return Curve(np.array(n), np.array(fd), np.array(fd_sd), float(intercept), se)
