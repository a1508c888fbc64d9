"""SDE-DPM-Solver++(2M): ``dpmpp_2m`` with fresh noise at each step. Lu et al. 2022 (arXiv:2211.01095), section 5."""

import math
from collections.abc import Iterator

from ddpm.base.sections import Share
from ddpm.base.tensor import Tensor
from ddpm.diffusion.variance import Variance
from ddpm.sampling.sampler import Chain, Denoise, Noise, Sampler, steps_of


class DPMSolverPP2MSDE(Sampler):
    """``eta``, k-diffusion's, is 1 for the reverse SDE and 0 for ``dpmpp_2m``. The first and the last step are first
    order, as there."""

    eta: Share = 1.0

    def steps(self, denoise: Denoise, x_T: Tensor, chain: Chain, noise: Noise, variance: Variance) -> Iterator[Tensor]:
        x = x_T
        before: tuple[Tensor, float] | None = None  # x_0 and step width h of the previous step
        for start, end, h in steps_of(chain):
            x_0 = D = denoise(x, start.t).x_0
            if before and end.sigma > 0:
                x_0_before, h_before = before
                D = x_0 + h / (2 * h_before) * (x_0 - x_0_before)
            decay = math.exp(-h)
            x = end.sigma / start.sigma * decay**self.eta * x + end.signal * (1 - decay ** (1 + self.eta)) * D
            if self.eta > 0 and end.sigma > 0:
                x = x + end.sigma * (1 - decay ** (2 * self.eta)) ** 0.5 * noise(start.t)
            before = x_0, h
            yield x
