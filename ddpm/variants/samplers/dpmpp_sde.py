"""SDE-DPM-Solver++(2S): k-diffusion's DPM++ SDE, in which every second evaluation corrects the one before. Lu et al.
2022 (arXiv:2211.01095), Algorithm 1 and section 5."""

import math
from collections.abc import Iterator

from ddpm.base.sections import Share
from ddpm.base.tensor import Tensor
from ddpm.diffusion.variance import Variance
from ddpm.sampling.sampler import Chain, Denoise, Noise, Sampler, sde_step, steps_of


class DPMSolverPPSDE(Sampler):
    """``eta`` = 1 solves the reverse SDE, 0 the ODE. The network knows only the chain's t, so a step of the method is
    two of the chain's: from s to the midpoint m, first order, and from there to the end, by x_0 at s and at m. The
    noise of the two adds up to that of the whole. A step from zero SNR, and the one to the image, are first order.
    """

    eta: Share = 1.0

    def steps(self, denoise: Denoise, x_T: Tensor, chain: Chain, noise: Noise, variance: Variance) -> Iterator[Tensor]:
        x = x_T
        first: tuple[Tensor, float] | None = None  # x_0 and step width h of the first half, at the midpoint
        for step in steps_of(chain):
            start, end, h = step
            x_0 = D = denoise(x, start.t).x_0
            if first and end.sigma > 0:
                # 2S wants x_0_s + (x_0 - x_0_s) / (2 r) from s on; the step to m was made with x_0_s alone
                x_0_s, h_s = first
                whole = 1 - math.exp(-(1 + self.eta) * (h_s + h))
                D = x_0_s + whole / step.gain(self.eta) * (h_s + h) / (2 * h_s) * (x_0 - x_0_s)
            x = sde_step(x, D, step, self.eta, noise)
            first = (x_0, h) if first is None and math.isfinite(h) else None
            yield x
