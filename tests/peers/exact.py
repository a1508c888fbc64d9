"""Data with a perfect denoiser in closed form, in float64: every sampler can be measured against it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ddpm.diffusion.chain import Chain
from ddpm.diffusion.parameterization import Prediction
from ddpm.diffusion.schedule import NoiseSchedule
from ddpm.evaluation.likelihood import Denoises
from ddpm.sampling.sampler import Level, levels
from ddpm.sources.gaussian_mixture import GaussianMixture


class MixtureData:
    """A mixture's perfect denoiser on a schedule's levels, in float64."""

    def __init__(self, schedule: NoiseSchedule, truth: GaussianMixture):
        self.level = {level.t: level for level in levels(schedule)}
        self.truth = truth
        self.visited: list[int] = []

    def __call__(self, x_t: Tensor, t: int) -> Prediction:
        self.visited.append(t)
        level = self.level[t]
        x_0 = self.x_0(x_t, level)
        return Prediction(x_0, (x_t - level.signal * x_0) / level.sigma)

    def x_0(self, x_t: Tensor, level: Level) -> Tensor:
        """E[x_0 | x_t], of x_t's shape."""
        return self.truth.posterior_mean(x_t, level.signal, level.sigma)


def truth(weights: list[float], means: Tensor, covariances: Tensor) -> GaussianMixture:
    """Images of D pixels, (D, 1, 1) each. weights (K,), means (K, D), covariances (K, D, D)."""
    values, vectors = torch.linalg.eigh(covariances)
    least = values[:, :1]
    factors = vectors * (values - least).sqrt()[:, None]
    return GaussianMixture(
        torch.tensor(weights).double(), means[..., None, None], least.expand(means.shape), factors[..., 1:]
    )


MEAN = torch.tensor([0.4, -0.2]).double()
COVARIANCE = torch.tensor([[0.25, 0.12], [0.12, 0.16]]).double()


def gaussian(schedule: NoiseSchedule) -> MixtureData:
    """Two correlated pixels: N(MEAN, COVARIANCE)."""
    return MixtureData(schedule, truth([1.0], MEAN[None], COVARIANCE[None]))


def mixture(schedule: NoiseSchedule) -> MixtureData:
    """Three overlapping components of different shapes."""
    means = torch.tensor([[0.6, 0.3], [-0.5, 0.5], [0.1, -0.7]]).double()
    shapes = torch.tensor([[[0.09, 0.03], [0.03, 0.06]], [[0.05, 0.0], [0.0, 0.12]], [[0.1, -0.04], [-0.04, 0.08]]])
    return MixtureData(schedule, truth([0.5, 0.3, 0.2], means, shapes.double()))


def even_in_log_snr(steps: int) -> NoiseSchedule:
    """A whole chain of ``steps`` + 1 levels, even in log(signal / sigma) from 3.5 to -3.5."""
    return NoiseSchedule(2 * np.linspace(3.5, -3.5, steps + 1), np.arange(1, steps + 2))


def denoises(truth: GaussianMixture, schedule: NoiseSchedule) -> Denoises:
    """Its perfect denoiser with a t for each image, as the likelihoods call a network's."""
    chain = Chain(schedule, dtype=torch.float64)

    def denoise(x_t: Tensor, t: Tensor) -> Prediction:
        at = chain.at(t)
        x_0 = truth.posterior_mean(x_t.double(), at.signal.flatten(), at.sigma.flatten())
        return Prediction(x_0, (x_t.double() - at.signal * x_0) / at.sigma)

    return denoise
