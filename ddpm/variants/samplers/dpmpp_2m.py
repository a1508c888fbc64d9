"""DPM-Solver++(2M): second order with one evaluation per step. Lu et al. 2022 (arXiv:2211.01095), Algorithm 2."""

import math
from collections.abc import Iterator

from ddpm.base.tensor import Tensor
from ddpm.diffusion.variance import Variance
from ddpm.sampling.sampler import Chain, Denoise, Noise, Sampler, steps_of


class DPMSolverPP2M(Sampler):
    """Deterministic; extrapolates x_0 from the last two evaluations. The first and the last step are first order:
    the first has nothing to extrapolate from, the last no finite log-SNR to extrapolate to."""

    def steps(self, denoise: Denoise, x_T: Tensor, chain: Chain, noise: Noise, variance: Variance) -> Iterator[Tensor]:
        x = x_T
        before: tuple[Tensor, float] | None = None  # x_0 and step width h of the previous step
        for start, end, h in steps_of(chain):
            x_0 = D = denoise(x, start.t).x_0
            if before and end.sigma > 0:
                x_0_before, h_before = before
                D = x_0 + h / (2 * h_before) * (x_0 - x_0_before)
            x = end.sigma / start.sigma * x - end.signal * math.expm1(-h) * D
            before = x_0, h
            yield x
