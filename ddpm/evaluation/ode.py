"""The likelihood by the probability-flow ODE, in bits per dimension. Song et al. 2020 (arXiv:2011.13456), section 4.3
and appendix D.2.

The ODE carries an image to noise, and the density N(0, I) of that noise back to the image by the divergence along the
way. In tau = log(sigma / (1 + signal)) it is dx/dtau = signal x - x_0(x), for any network and any schedule, zero
terminal SNR included. No variance is needed, and x_0 is not clamped.

The network knows only the chain's t. So the steps are Heun's, of second order, between steps of the chain, which are
visited about evenly in log-SNR; nothing is evaluated in between. They begin at t = 1, with signal x_0. Detail finer
than the noise at t = 1 is not resolved, so a pixel that never changes costs about log2(255 sigma_1) + 0.33 bits, where
the variational bound, which knows the 256 levels, may reach 0.

The density of integers is unbounded, so uniform noise spreads each pixel over its level, 2/255 wide. Averaged over that
noise, the result is an upper bound on -log2 of the level's probability. That noise, and the noise that estimates the
divergence, are functions of seed and image.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor

from ddpm.compute import noise
from ddpm.diffusion.schedule import NoiseSchedule
from ddpm.evaluation.likelihood import Array, Asked, Denoises, of_images
from ddpm.sampling import spacing
from ddpm.sampling.sampler import Level, levels

LEVEL = 2 / 255  # width of one of the 256 levels in [-1, 1]


def bits_per_dim(denoiser: Denoises, schedule: NoiseSchedule, asked: Asked, steps: int) -> Array:
    """(M,) of the images, by ``steps`` steps of the ODE, at most T - 1; two evaluations each.

    denoiser: differentiable by x_t.
    """
    visited = schedule.respace(spacing.timesteps(schedule, min(steps + 1, len(schedule)), "log_snr"))
    signal, pixels = float(visited.alpha_bar[0] ** 0.5), math.prod(asked.images.shape[1:])

    def bits(index: Tensor, x_0: Tensor) -> tuple[Tensor]:
        spread, probe = (
            noise.gaussian(asked.seed, f"likelihood ode {name}", index, 0, x_0.shape[1:]).double()
            for name in ("level", "trace")
        )
        x_0 = x_0 + LEVEL * (torch.special.ndtr(spread) - 0.5)
        probe = torch.ones_like(probe).copysign(probe)
        nats = log_density(asked.labelled(denoiser, index), visited, signal * x_0, probe) + pixels * math.log(signal)
        return (-(nats / pixels + math.log(LEVEL)) / math.log(2),)

    return of_images("likelihood by the ODE", bits, asked)[0]


def log_density(denoiser: Denoises, schedule: NoiseSchedule, x: Tensor, probe: Tensor) -> Tensor:
    """log p(x) in nats, (B,), at the schedule's first level, if at its last x is N(0, I). Every level is visited.

    x: (B, C, H, W) float64. probe: of x's shape, with independent entries of mean 0 and variance 1.
    """
    gained = x.new_zeros(len(x))
    for start, end in pairwise(levels(schedule)[-2::-1]):  # without the image itself, to which tau is -inf
        width = _tau(end) - _tau(start)
        slope, divergence = _slope(denoiser, x, start, probe)
        slope_end, divergence_end = _slope(denoiser, x + width * slope, end, probe)
        x = x + width / 2 * (slope + slope_end)
        gained = gained + width / 2 * (divergence + divergence_end)
    return gained - 0.5 * (x.square() + math.log(2 * math.pi)).flatten(1).sum(1)


def _tau(level: Level) -> float:
    return math.log(level.sigma / (1 + level.signal))


@torch.enable_grad()
def _slope(denoiser: Denoises, x: Tensor, level: Level, probe: Tensor) -> tuple[Tensor, Tensor]:
    """dx/dtau, and an unbiased estimate of its divergence, (B,): probe^T J probe. Hutchinson 1990."""
    x = x.detach().requires_grad_()
    x_0 = denoiser(x.float(), torch.full((len(x),), level.t, device=x.device)).x_0.to(x)
    (pulled,) = torch.autograd.grad(x_0, x, probe)
    divergence = level.signal * x[0].numel() - (pulled * probe).flatten(1).sum(1)
    return (level.signal * x - x_0).detach(), divergence
