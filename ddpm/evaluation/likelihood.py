"""The variational bound on the likelihood, in bits per dimension. Ho et al. 2020 (arXiv:2006.11239), equation 5.

-log2 p(x_0) <= L_T + sum over t = 2..T of L_{t-1} + L_0, for images of 256 levels. L_T and L_0 are computed for every
image. The sum is estimated: 2..T is cut into strata, each image gets one uniformly drawn t from each, and the term
there counts for as many steps as the stratum has. This is unbiased, and its error falls with the number of images.

The reverse variance is the model's. As in the paper's code, the prediction of x_0 is clamped to [-1, 1] before the mean
is computed from it: the denoiser must be one that clips.

Noise and t are a function of seed, image and stratum. With the training seed as the seed, models of one training seed
share them, and so do both splits, which makes their differences less noisy. Models of other seeds do not, so the spread
over seeds includes the error of the estimate. If all seeds shared them, no number of seeds would average that error out
and no interval would include it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddpm.base import progress
from ddpm.compute import noise
from ddpm.compute.distributed import ALONE, Ranks
from ddpm.diffusion.chain import Chain, bound_term, from_images, prior_kl
from ddpm.diffusion.coefficients import posterior_mean, q_sample
from ddpm.diffusion.parameterization import Prediction
from ddpm.diffusion.schedule import NoiseSchedule
from ddpm.diffusion.variance import Variance

Array = NDArray[np.float64]
# (x_0, epsilon) of x_t, (B, C, H, W) float32, at the t of each image, (B,) int64 in 1..T
Denoises = Callable[..., Prediction]


class LikelihoodJob(NamedTuple):
    """The images whose likelihood is asked for, uint8 (M, C, H, W), and how it is computed.

    labels: (M,) on the device, their classes, for a denoiser that takes them as ``labels``. Each rank processes its
    share of the images, and gets the whole. M is at least the number of ranks.
    """

    images: NDArray[np.uint8]
    batch_size: int
    device: torch.device
    seed: int
    ranks: Ranks = ALONE
    labels: Tensor | None = None


@dataclass(frozen=True)
class Bound:
    """The bound of M images in bits per dimension, by stratum; the first stratum is just t = 1.

    first, steps: (S,) the lowest t of each stratum and its number of t. terms: (M, S) the term of one step at the drawn
    t; mse: (M, S) the mean squared error of epsilon there. prior: (M,) L_T.
    """

    first: NDArray[np.int64]
    steps: NDArray[np.int64]
    terms: Array
    mse: Array
    prior: Array

    @property
    def bits_per_dim(self) -> Array:
        """(M,) the whole bound of each image."""
        total: Array = self.prior + self.terms @ self.steps
        return total


def strata(T: int, timesteps: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first t and the number of t of each stratum: t = 1, then ``timesteps`` parts of 2..T, at most T - 1.

    They are as even in log(t) as whole steps allow, because the terms fall about as 1 / t: in equal parts, the terms of
    the lowest part would vary by as much as the whole bound. With one step per part only the noise is random.
    """
    parts = min(timesteps, T - 1)
    place = np.arange(parts + 1)
    edges = np.round(2 * ((T + 1) / 2) ** (place / max(parts, 1))).astype(np.int64)
    edges = np.minimum(np.maximum.accumulate(edges - place) + place, T + 1 - place[::-1])
    first = np.concatenate([[1], edges[:-1]])
    return first, np.diff(np.append(first, T + 1))


def bound(denoiser: Denoises, schedule: NoiseSchedule, variance: Variance, job: LikelihoodJob, timesteps: int) -> Bound:
    """The bound of the images under ``denoiser``, at ``timesteps`` of 2..T for each, and at t = 1."""
    chain = Chain(schedule, job.device, torch.float64)  # small terms are differences of large numbers
    first, steps = strata(len(schedule), timesteps)

    def bound_images(index: Tensor, images: NDArray[np.uint8]) -> tuple[Tensor, Tensor, Tensor]:
        x_0 = from_images(torch.from_numpy(images).to(job.device).double())
        given = denoiser if job.labels is None else partial(denoiser, labels=job.labels[index])
        columns = []
        for low, count in zip(first.tolist(), steps.tolist(), strict=True):
            t, epsilon = draw_stratum(job.seed, index, low, count, x_0.shape[1:])
            columns.append(term(given, chain, variance, x_0, epsilon, t))
        prior = prior_kl(x_0, chain.at_step(len(schedule))).mean(dim=(1, 2, 3)) / math.log(2)
        terms, mse = (torch.stack(column, dim=1) for column in zip(*columns, strict=True))
        return terms, mse, prior

    return Bound(first, steps, *map_images("likelihood", bound_images, job))


def map_images(
    title: str, function: Callable[[Tensor, NDArray[np.uint8]], tuple[Tensor, ...]], job: LikelihoodJob
) -> list[Array]:
    """The results of ``function`` for all images, (M, ...) each. It gets the numbers of some, (B,), and their uint8
    (B, C, H, W). title: of the progress bar."""
    images, parts = job.images, []
    share = torch.arange(len(images), device=job.device)[job.ranks.share(len(images))]
    with progress.bar(len(images), title, "image", shown=job.ranks.main) as bar:
        for index in share.split(job.batch_size):
            parts.append(function(index, images[index.cpu().numpy()]))
            done = min(len(parts) * job.batch_size, len(share))  # the other ranks are about as far with their shares
            bar.update(done * len(images) // len(share) - bar.n)
    return [job.ranks.gather(torch.cat(part), len(images)).cpu().numpy() for part in zip(*parts, strict=True)]


def draw_stratum(seed: int, index: Tensor, low: int, count: int, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """t, (B,), of the images ``index`` in the stratum of ``count`` steps from ``low`` on, and epsilon, (B, *shape)."""
    t = low + (noise.uniform(seed, "likelihood t", index, low) * count).long()
    return t, noise.gaussian(seed, "likelihood", index, low, shape).double()


def term(
    denoiser: Denoises, chain: Chain, variance: Variance, x_0: Tensor, epsilon: Tensor, t: Tensor
) -> tuple[Tensor, Tensor]:
    """L_{t-1} in bits per dimension, and the mean squared error of epsilon, (B,) each, in the precision of x_0."""
    at = chain.at(t)
    x_t = q_sample(x_0, epsilon, at)
    prediction = denoiser(x_t.float(), t)
    mean = posterior_mean(prediction.x_0.to(x_0), x_t, at)
    nats = bound_term(x_0, x_t, mean, variance.log_variance(at, prediction.variance_output), at)
    mse = (prediction.epsilon.to(x_0) - epsilon).square()
    return nats.mean(dim=(1, 2, 3)) / math.log(2), mse.mean(dim=(1, 2, 3))
