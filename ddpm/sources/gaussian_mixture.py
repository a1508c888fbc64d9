"""A mixture of Gaussians under the forward process, in closed form: x_t = signal x_0 + sigma epsilon is one too.

Component k has the mean mu_k and the covariance S_k = diag(variances_k) + factors_k factors_k^T. At a level its mean is
signal mu_k, its covariance C_k = signal^2 S_k + sigma^2 I. C_k is solved by the Woodbury identity, in r x r matrices
for factors of rank r, so images of any size are cheap.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

# of a level: one number, or one for each image, (B,)
Coefficient = float | Tensor


@dataclass(frozen=True, eq=False)
class GaussianMixture:
    """K components over images of any ``shape``, D pixels in all; everything is float64.

    weights: (K,), they add up to 1. means: (K, *shape). variances: (K, D), positive. factors: (K, D, r).

    Each method takes x_t, (B, *shape), with its level: signal = sqrt(alpha_bar) and sigma = sqrt(1 - alpha_bar). Two
    numbers, because neither follows to full precision from the other. signal = 0 is allowed, and sigma = 0 is the data.
    """

    weights: Tensor
    means: Tensor
    variances: Tensor
    factors: Tensor

    @property
    def shape(self) -> torch.Size:
        return self.means.shape[1:]

    def covariances(self) -> Tensor:
        """S_k, (K, D, D): for small images."""
        return torch.diag_embed(self.variances) + self.factors @ self.factors.mT

    def moments(self) -> tuple[Tensor, Tensor]:
        """The whole mixture's mean, (D,), and covariance, (D, D)."""
        means = self.means.flatten(1)
        mean = self.weights @ means
        offset = means - mean
        within = torch.einsum("k,kij->ij", self.weights, self.covariances())
        return mean, within + torch.einsum("k,ki,kj->ij", self.weights, offset, offset)

    def draw(self, labels: Tensor, pixel_noise: Tensor, factor_noise: Tensor) -> Tensor:
        """x_0 of the components ``labels``, (B,), from standard normals, (B, D) and (B, r)."""
        spread = self.variances[labels].sqrt() * pixel_noise
        spread = spread + (self.factors[labels] @ factor_noise[..., None])[..., 0]
        return self.means[labels] + spread.unflatten(1, self.shape)

    def log_density(self, x_t: Tensor, signal: Coefficient, sigma: Coefficient) -> Tensor:
        """log p_t(x_t) in nats, (B,)."""
        return self._solve(x_t, signal, sigma)[1].logsumexp(1)

    def class_posterior(self, x_t: Tensor, signal: Coefficient, sigma: Coefficient) -> Tensor:
        """p(k | x_t), (B, K)."""
        return self._solve(x_t, signal, sigma)[1].softmax(1)

    def score(self, x_t: Tensor, signal: Coefficient, sigma: Coefficient) -> Tensor:
        """The gradient of ``log_density`` by x_t, (B, *shape)."""
        solved, log_joint = self._solve(x_t, signal, sigma)
        return -torch.einsum("bk,bkd->bd", log_joint.softmax(1), solved).view_as(x_t)

    def posterior_means(self, x_t: Tensor, signal: Coefficient, sigma: Coefficient) -> Tensor:
        """E[x_0 | x_t, k] of each class k, (B, K, *shape)."""
        return self._means(self._solve(x_t, signal, sigma)[0], signal).unflatten(2, self.shape)

    def posterior_mean(self, x_t: Tensor, signal: Coefficient, sigma: Coefficient) -> Tensor:
        """E[x_0 | x_t], (B, *shape): what a perfect denoiser predicts."""
        solved, log_joint = self._solve(x_t, signal, sigma)
        return torch.einsum("bk,bkd->bd", log_joint.softmax(1), self._means(solved, signal)).view_as(x_t)

    def _means(self, solved: Tensor, signal: Coefficient) -> Tensor:
        """mu_k + signal S_k C_k^-1 (x_t - signal mu_k), (B, K, D)."""
        along = torch.einsum("ker,bke->bkr", self.factors, solved)
        spread = self.variances * solved + torch.einsum("kdr,bkr->bkd", self.factors, along)
        return self.means.flatten(1) + _column(signal) * spread

    def _solve(self, x_t: Tensor, signal: Coefficient, sigma: Coefficient) -> tuple[Tensor, Tensor]:
        """C_k^-1 (x_t - signal mu_k), (B, K, D), and log(weight_k N(x_t; signal mu_k, C_k)), (B, K)."""
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
        normal = -0.5 * (distance + log_det + offset.shape[-1] * math.log(2 * math.pi))
        return solved, self.weights.log() + normal


def _column(coefficient: Coefficient) -> Tensor:
    """(B, 1, 1), or (1, 1, 1) for one number."""
    return torch.as_tensor(coefficient, dtype=torch.float64).reshape(-1, 1, 1)
