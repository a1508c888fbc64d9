"""Data with a perfect denoiser in closed form, and so with a known flow, in float64: what all is measured against."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ddpm.diffusion.chain import Chain
from ddpm.diffusion.parameterization import Prediction
from ddpm.diffusion.schedule import NoiseSchedule
from ddpm.evaluation.likelihood import Denoises
from ddpm.sampling.sampler import Level, levels

# of a level: one number, or one for each image, (B,)
Coefficient = float | Tensor


@dataclass(frozen=True, eq=False)
class Truth:
    """A Gaussian mixture under the forward process, in closed form: x_t = signal x_0 + sigma epsilon is one too. Of its
    K components over images of any ``shape``, D pixels in all, component k has the mean mu_k and the covariance
    S_k = diag(variances_k) + factors_k factors_k^T; everything is float64.

    At a level component k has the mean signal mu_k and the covariance C_k = signal^2 S_k + sigma^2 I. C_k is solved by
    the Woodbury identity, in r x r matrices for factors of rank r.

    Each method takes x_t, (B, *shape), with its level: signal = sqrt(alpha_bar) and sigma = sqrt(1 - alpha_bar). Two
    numbers, because neither follows to full precision from the other. signal = 0 is allowed, and sigma = 0 is the data.
    """

    weights: Tensor  # (K,), which add up to 1
    means: Tensor  # (K, *shape)
    variances: Tensor  # (K, D), positive
    factors: Tensor  # (K, D, r)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.means.shape[1:]

    def draw(self, labels: Tensor, pixel_noise: Tensor, factor_noise: Tensor) -> Tensor:
        """x_0 of the components ``labels``, (B,), from standard normals, (B, D) and (B, r)."""
        spread = self.variances[labels].sqrt() * pixel_noise
        spread = spread + (self.factors[labels] @ factor_noise[..., None])[..., 0]
        return self.means[labels] + spread.unflatten(1, self.shape)

    def covariances(self) -> Tensor:
        """S_k, (K, D, D): for small images."""
        return torch.diag_embed(self.variances) + self.factors @ self.factors.mT

    def class_posterior(self, x_t: Tensor, signal: Coefficient, sigma: Coefficient) -> Tensor:
        """p(k | x_t), (B, K)."""
        return self._solve(x_t, signal, sigma)[1]

    def posterior_mean(self, x_t: Tensor, signal: Coefficient, sigma: Coefficient) -> Tensor:
        """E[x_0 | x_t], (B, *shape): what a perfect denoiser predicts."""
        solved, posterior = self._solve(x_t, signal, sigma)
        along = torch.einsum("ker,bke->bkr", self.factors, solved)
        spread = self.variances * solved + torch.einsum("kdr,bkr->bkd", self.factors, along)
        # mu_k + signal S_k C_k^-1 (x_t - signal mu_k), of each component
        means = self.means.flatten(1) + _column(signal) * spread
        return torch.einsum("bk,bkd->bd", posterior, means).view_as(x_t)

    def _solve(self, x_t: Tensor, signal: Coefficient, sigma: Coefficient) -> tuple[Tensor, Tensor]:
        """C_k^-1 (x_t - signal mu_k), (B, K, D), and p(k | x_t), (B, K): of weight_k N(x_t; signal mu_k, C_k)."""
        signal, sigma = _column(signal), _column(sigma)
        offset = x_t.flatten(1)[:, None] - signal * self.means.flatten(1)
        diagonal = signal**2 * self.variances + sigma**2
        factors = signal[..., None] * self.factors
        scaled = factors / diagonal[..., None]
        inner = torch.eye(factors.shape[-1], dtype=torch.float64, device=x_t.device) + factors.mT @ scaled
        root = torch.linalg.cholesky(inner)
        along = torch.einsum("bkdr,bkd->bkr", scaled, offset)
        within = torch.cholesky_solve(along[..., None], root)[..., 0]
        solved = offset / diagonal - torch.einsum("bkdr,bkr->bkd", scaled, within)
        log_det = diagonal.log().sum(-1) + 2 * root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        distance = (offset * solved).sum(-1)
        return solved, (self.weights.log() - 0.5 * (distance + log_det)).softmax(1)


def _column(coefficient: Coefficient) -> Tensor:
    """(B, 1, 1), or (1, 1, 1) for one number."""
    return torch.as_tensor(coefficient, dtype=torch.float64).reshape(-1, 1, 1)


def pictured(components: int, shape: tuple[int, int, int], ratio: float = 1.0, seed: int = 0) -> Truth:
    """Images of smooth components, within five standard deviations of [-1, 1]. ratio: each component's share over that
    of the one before. Around a mean, each pixel varies by 0.1: half of it independently, the rest along one image."""
    random = np.random.default_rng(seed)
    coarse = torch.from_numpy(random.uniform(-1, 1, (2 * components, shape[0], *(min(side, 4) for side in shape[1:]))))
    smooth = torch.nn.functional.interpolate(coarse, shape[1:], mode="bilinear", align_corners=True)
    weights = torch.from_numpy(ratio ** np.arange(components))
    return Truth(
        weights=weights / weights.sum(),
        means=smooth[:components] / 2,
        variances=torch.full((components, math.prod(shape)), 0.1**2 / 4, dtype=torch.float64),
        factors=0.1 * math.sqrt(3 / 4) * smooth[components:].flatten(1)[..., None],
    )


class MixtureData:
    """A mixture's perfect denoiser on a schedule's levels, in float64; with ``end`` its perfect flow map. visited: each
    call's t."""

    def __init__(self, schedule: NoiseSchedule, truth: Truth):
        self.level = {level.t: level for level in levels(schedule)}
        self.truth, self.visited = truth, list[int]()

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


def flow(truth: Truth, x: Tensor, start: Tensor, end: Tensor, steps: int = 30) -> Tensor:
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


def truth(weights: list[float], means: Tensor, covariances: Tensor) -> Truth:
    """Images of D pixels, (D, 1, 1) each. weights (K,), means (K, D), covariances (K, D, D)."""
    values, vectors = torch.linalg.eigh(covariances)
    least = values[:, :1]
    factors = vectors * (values - least).sqrt()[:, None]
    return Truth(torch.tensor(weights).double(), means[..., None, None], least.expand(means.shape), factors[..., 1:])


MEAN = torch.tensor([0.4, -0.2]).double()
COVARIANCE = torch.tensor([[0.25, 0.12], [0.12, 0.16]]).double()


def gaussian_truth() -> Truth:
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


def denoises(truth: Truth, schedule: NoiseSchedule) -> Denoises:
    """Its perfect denoiser with a t for each image, as the likelihoods call a network's."""
    chain = Chain(schedule, dtype=torch.float64)

    def denoise(x_t: Tensor, t: Tensor) -> Prediction:
        at = chain.at(t)
        x_0 = truth.posterior_mean(x_t.double(), at.signal.flatten(), at.sigma.flatten())
        return Prediction(x_0, (x_t.double() - at.signal * x_0) / at.sigma)

    return denoise
