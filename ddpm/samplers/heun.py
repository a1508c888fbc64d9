"""Heun's second order for the probability-flow ODE. Karras et al. 2022 (arXiv:2206.00364), Algorithm 1."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

from ddpm.samplers import Denoise, Noise, Sampler, levels

if TYPE_CHECKING:
    from torch import Tensor

    from ddpm.diffusion import Chain
    from ddpm.variances import Variance


class Heun(Sampler):
    """Deterministic; the trapezoid rule in EDM's scaled space, x / signal against sigma / signal.

    There it weighs the second evaluation by half of what sigma / signal shrinks by, less one. Where that more than
    halves in a step, as at the noise end of the cosine schedule or from zero SNR, the rule would extrapolate without
    bound; the weight is then held to 1 - sigma ratio, at which x is still between x_t and the second x_0.
    """

    def steps(self, denoise: Denoise, x_T: Tensor, chain: Chain, noise: Noise, variance: Variance) -> Iterator[Tensor]:
        x = x_T
        for start, end in pairwise(levels(chain.schedule)):
            x_0, epsilon, _ = denoise(x, start.t)
            x = end.signal * x_0 + end.sigma * epsilon  # Euler's step, which is DDIM's
            if end.sigma > 0:
                h = end.log_ratio - start.log_ratio
                weight = min(math.expm1(h) / 2, -math.expm1(-h))
                x = x + end.signal * weight * (denoise(x, end.t).x_0 - x_0)
            yield x

    def evaluations(self, steps: int) -> int:
        return 2 * steps - 1
