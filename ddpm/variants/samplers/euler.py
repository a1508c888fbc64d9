"""Euler's method on the flow ODE dx/ds = epsilon - x_0, with s from 1 at noise to 0 at the image. Liu et al. 2022
(arXiv:2209.03003), section 2.1."""

from collections.abc import Iterator

from ddpm.base.tensor import Tensor
from ddpm.diffusion.variance import Variance
from ddpm.sampling.sampler import Chain, Denoise, Noise, Sampler, steps_of


class Euler(Sampler):
    """Deterministic. x_t / (signal + sigma) is the flow's x at s = sigma / (signal + sigma), under any schedule. As the
    line from x_0 to epsilon is straight, its steps are those of ``ddim`` with eta = 0."""

    def steps(self, denoise: Denoise, x_T: Tensor, chain: Chain, noise: Noise, variance: Variance) -> Iterator[Tensor]:
        x = x_T
        for start, end, _ in steps_of(chain):
            x_0, epsilon, _ = denoise(x, start.t)
            length, length_end = start.signal + start.sigma, end.signal + end.sigma
            ds = end.sigma / length_end - start.sigma / length
            x = length_end * (x / length + ds * (epsilon - x_0))
            yield x
