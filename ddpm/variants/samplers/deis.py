"""DEIS: a parabola through the last three epsilon in log(sigma / signal), integrated exactly. Zhang & Chen 2022
(arXiv:2204.13902), multistep in log rho."""

import math
from collections.abc import Iterator

from ddpm.base.tensor import Tensor
from ddpm.diffusion.variance import Variance
from ddpm.sampling.sampler import Chain, Denoise, Noise, Sampler, steps_of


class DEIS(Sampler):
    """Deterministic, third order. The first step, which has one epsilon, and the last, where log(sigma / signal) has no
    end, are those of ``ddim``."""

    def steps(self, denoise: Denoise, x_T: Tensor, chain: Chain, noise: Noise, variance: Variance) -> Iterator[Tensor]:
        x = x_T
        history: list[tuple[Tensor, float]] = []  # epsilon and step width h of the previous steps, newest first
        for start, end, h in steps_of(chain):
            x_0, epsilon, _ = denoise(x, start.t)
            x = end.signal * x_0 + end.sigma * epsilon
            if history and end.sigma > 0:
                epsilon_1, h_1 = history[0]
                slope = (epsilon - epsilon_1) * (h / h_1)
                # the integral of s over the step from 0 to 1, and below of s^2, by e^(h - h s)
                psi = math.expm1(h) / h - 1
                change = psi * slope
                if len(history) == 2:
                    epsilon_2, h_2 = history[1]
                    curve = (slope - (epsilon_1 - epsilon_2) * (h / h_2)) * (h / (h_1 + h_2))
                    change = psi * (slope + h_1 / h * curve) + (2 * psi / h - 1) * curve
                x = x - end.sigma * change
            history = [(epsilon, h), *history[:1]]
            yield x
