"""Data with a perfect denoiser in closed form, and so with a known flow, in float64: what all is measured against."""

from __future__ import annotations

import math

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
    """A mixture's perfect denoiser on a schedule's levels, in float64; with ``end`` its perfect flow map."""

    def __init__(self, schedule: NoiseSchedule, truth: GaussianMixture):
        self.level = {level.t: level for level in levels(schedule)}
        self.truth = truth
        self.visited: list[int] = []

    def __call__(self, x_t: Tensor, t: int, end: int | None = None) -> Prediction:
        self.visited.append(t)
        level = self.level[t]
        if end is not None:
            angles = [torch.tensor([math.atan2(*self.level[one][2:0:-1])]).double() for one in (t, end)]
            return pair(x_t, flow(self.truth, x_t, *angles), *angles)
        x_0 = self.x_0(x_t, level)
        return Prediction(x_0, (x_t - level.signal * x_0) / level.sigma)

    def x_0(self, x_t: Tensor, level: Level) -> Tensor:
        """E[x_0 | x_t], of x_t's shape."""
        return self.truth.posterior_mean(x_t, level.signal, level.sigma)


def flow(truth: GaussianMixture, x: Tensor, start: Tensor, end: Tensor, steps: int = 30) -> Tensor:
    """Where the probability-flow ODE leads from x, (B, ...). The angles of start and end, (B,) or (1,), are those of
    signal = cos and sigma = sin; there dx/dangle = (cos x - x_0) / sin, by Runge and Kutta's steps of order 4."""

    def slope(x: Tensor, angle: Tensor) -> Tensor:
        x_0 = truth.posterior_mean(x, angle.cos(), angle.sin())
        return (_image(angle.cos()) * x - x_0) / _image(angle.sin())

    h = (end.clamp(min=1e-6) - start) / steps  # the slope is 0 / 0 at the image
    for step in range(steps):
        angle, width = start + step * h, _image(h)
        k_1 = slope(x, angle)
        k_2 = slope(x + width / 2 * k_1, angle + h / 2)
        k_3 = slope(x + width / 2 * k_2, angle + h / 2)
        k_4 = slope(x + width * k_3, angle + h)
        x = x + width / 6 * (k_1 + 2 * k_2 + 2 * k_3 + k_4)
    return x


def pair(x_t: Tensor, x_s: Tensor, t: Tensor, s: Tensor) -> Prediction:
    """The (x_0, epsilon) of which both are mixtures, at the angles t and s."""
    cos_t, sin_t, cos_s, sin_s, sine = map(_image, (t.cos(), t.sin(), s.cos(), s.sin(), (t - s).sin()))
    return Prediction((sin_t * x_s - sin_s * x_t) / sine, (cos_s * x_t - cos_t * x_s) / sine)


def _image(angle: Tensor) -> Tensor:
    return angle[:, None, None, None]


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


def gaussian_truth() -> GaussianMixture:
    """Two correlated pixels: N(MEAN, COVARIANCE)."""
    return truth([1.0], MEAN[None], COVARIANCE[None])


def gaussian(schedule: NoiseSchedule) -> MixtureData:
    return MixtureData(schedule, gaussian_truth())


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
