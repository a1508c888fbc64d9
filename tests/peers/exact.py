"""Data with a perfect denoiser in closed form, in float64: every sampler can be measured against it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ddpm.diffusion.parameterization import Prediction
from ddpm.diffusion.schedule import NoiseSchedule
from ddpm.sampling.sampler import Level, levels


class MixtureData:
    """Images of D pixels, (D, 1, 1) each, from a mixture of Gaussians; called, it is the perfect denoiser.

    weights (K,), means (K, D), covariances (K, D, D).
    """

    def __init__(self, schedule: NoiseSchedule, weights: Tensor, means: Tensor, covariances: Tensor):
        self.level = {level.t: level for level in levels(schedule)}
        self.weights, self.means, self.covariances = weights, means, covariances
        self.visited: list[int] = []

    def __call__(self, x_t: Tensor, t: int) -> Prediction:
        self.visited.append(t)
        level = self.level[t]
        x_0 = self.x_0(x_t.flatten(1), level).reshape(x_t.shape)
        return Prediction(x_0, (x_t - level.signal * x_0) / level.sigma)

    def x_0(self, x_t: Tensor, level: Level) -> Tensor:
        """E[x_0 | x_t], (B, D): each component's posterior mean by its responsibility for x_t."""
        noisy = level.signal**2 * self.covariances + level.sigma**2 * torch.eye(self.means.shape[1]).double()
        offset = x_t[:, None] - level.signal * self.means  # (B, K, D)
        solved = torch.linalg.solve(noisy, offset[..., None])[..., 0]
        log_density = -0.5 * ((offset * solved).sum(-1) + torch.logdet(noisy))
        responsibility = torch.softmax(self.weights.log() + log_density, dim=1)
        mean = self.means + level.signal * (self.covariances @ solved[..., None])[..., 0]
        return (responsibility[..., None] * mean).sum(1)


MEAN = torch.tensor([0.4, -0.2]).double()
COVARIANCE = torch.tensor([[0.25, 0.12], [0.12, 0.16]]).double()


def gaussian(schedule: NoiseSchedule) -> MixtureData:
    """Two correlated pixels: N(MEAN, COVARIANCE)."""
    return MixtureData(schedule, torch.ones(1).double(), MEAN[None], COVARIANCE[None])


def mixture(schedule: NoiseSchedule) -> MixtureData:
    """Three overlapping components of different shapes."""
    means = torch.tensor([[0.6, 0.3], [-0.5, 0.5], [0.1, -0.7]]).double()
    shapes = torch.tensor([[[0.09, 0.03], [0.03, 0.06]], [[0.05, 0.0], [0.0, 0.12]], [[0.1, -0.04], [-0.04, 0.08]]])
    return MixtureData(schedule, torch.tensor([0.5, 0.3, 0.2]).double(), means, shapes.double())


def even_in_log_snr(steps: int) -> NoiseSchedule:
    """A whole chain of ``steps`` + 1 levels, even in log(signal / sigma) from 3.5 to -3.5."""
    return NoiseSchedule(2 * np.linspace(3.5, -3.5, steps + 1), np.arange(1, steps + 2))
