"""Heun's second order for the probability-flow ODE. Karras et al. 2022 (arXiv:2206.00364), Algorithm 1."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

from ddpm.base.tensor import Tensor
from ddpm.diffusion.variance import Variance
from ddpm.sampling.sampler import Denoise, Noise, Sampler, levels

if TYPE_CHECKING:
    from ddpm.diffusion.chain import Chain


class Heun(Sampler):
    """Deterministic: DDIM's step, and one more evaluation at its end that corrects it.

    EDM's trapezoid in sigma / signal weighs the change of x_0 by (sigma ratio - 1) / 2, without bound where little
    signal is left. Here time is the angle phi, with signal = cos(phi) and sigma = sin(phi), which is bounded. In it
    dx_0/dphi = -sigma r for r = x + x'', and DDIM is exact where r = 0. With r constant over a step of delta, x is
    (1 - cos(delta)) r from DDIM's, and x_0 changes by (signal' - signal) r. The second evaluation is at DDIM's x: how
    much of x's error it sees is the slope of x_0 by x, taken from data N(0, I) and the start of the step, where it is
    least: signal' signal^2. Near the image this is EDM's weight; it is always below 1 / sigma^2.
    """

    def steps(self, denoise: Denoise, x_T: Tensor, chain: Chain, noise: Noise, variance: Variance) -> Iterator[Tensor]:
        x = x_T
        for start, end in pairwise(levels(chain.schedule)):
            x_0, epsilon, _ = denoise(x, start.t)
            x = end.signal * x_0 + end.sigma * epsilon
            if end.sigma > 0:
                high, low = (math.atan2(level.sigma, level.signal) for level in (start, end))
                half = math.sin((high - low) / 2)
                weight = half / (math.sin((high + low) / 2) - end.signal * start.signal**2 * half)
                x = x + weight * (denoise(x, end.t).x_0 - x_0)
            yield x

    def evaluations(self, steps: int) -> int:
        return 2 * steps - 1
