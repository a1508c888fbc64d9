"""Heun's second order for the probability-flow ODE. Karras et al. 2022 (arXiv:2206.00364), Algorithm 1."""

import math
from collections.abc import Iterator

from ddpm.base.tensor import Tensor
from ddpm.diffusion.variance import Variance
from ddpm.sampling.sampler import Chain, Denoise, Noise, Sampler, steps_of


class Heun(Sampler):
    """Deterministic: a DDIM step, corrected by a second evaluation at its end.

    EDM's trapezoid in sigma / signal weights the change of x_0 by (sigma ratio - 1) / 2, which is unbounded if little
    signal is left. Here time is the angle phi, with signal = cos(phi) and sigma = sin(phi), which is bounded. Then
    dx_0/dphi = -sigma r for r = x + x'', and DDIM is exact if r = 0. If r is constant over a step of delta, x differs
    from DDIM's by (1 - cos(delta)) r, and x_0 changes by (signal' - signal) r. The second evaluation is at DDIM's x.
    How much of x's error it sees is the slope of x_0 in x, taken here from data N(0, I) at the start of the step, where
    it is least: signal' signal^2. Near the image the weight is EDM's; it is always below 1 / sigma^2.
    """

    def steps(self, denoise: Denoise, x_T: Tensor, chain: Chain, noise: Noise, variance: Variance) -> Iterator[Tensor]:
        x = x_T
        for start, end, _ in steps_of(chain):
            x_0, epsilon, _ = denoise(x, start.t)
            x = end.signal * x_0 + end.sigma * epsilon
            if end.sigma > 0:
                high, low = (math.atan2(level.sigma, level.signal) for level in (start, end))
                half = math.sin((high - low) / 2)
                weight = half / (math.sin((high + low) / 2) - end.signal * start.signal**2 * half)
                x = x + weight * (denoise(x, end.t).x_0 - x_0)
            yield x
