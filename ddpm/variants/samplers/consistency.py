"""The image that the ODE leads to, noised again and asked for again at each step. Song et al. 2023 (arXiv:2303.01469),
Algorithm 1."""

from collections.abc import Iterator
from typing import ClassVar

from ddpm.base.tensor import Tensor
from ddpm.diffusion.loss import Learns
from ddpm.diffusion.variance import Variance
from ddpm.sampling.sampler import Chain, Denoise, Noise, Sampler, steps_of


class ConsistencySampler(Sampler):
    needs: ClassVar[Learns] = "consistency"

    def steps(self, denoise: Denoise, x_T: Tensor, chain: Chain, noise: Noise, variance: Variance) -> Iterator[Tensor]:
        x = x_T
        for start, end, _ in steps_of(chain):
            x = end.signal * denoise(x, start.t, end=0).x_0
            if end.sigma > 0:
                x = x + end.sigma * noise(start.t)
            yield x
