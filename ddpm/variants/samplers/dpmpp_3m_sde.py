"""DPM-Solver++(3M) with fresh noise at each step, k-diffusion's DPM++ 3M SDE: a parabola through the last three x_0.
After Lu et al. 2022 (arXiv:2211.01095)."""

from collections.abc import Iterator

from ddpm.base.sections import Share
from ddpm.base.tensor import Tensor
from ddpm.diffusion.variance import Variance
from ddpm.sampling.sampler import Chain, Denoise, Noise, Sampler, sde_step, steps_of


class DPMSolverPP3MSDE(Sampler):
    """``eta`` = 1 solves the reverse SDE, 0 the ODE. A step is exact if x_0 is a parabola in log_ratio. (k-diffusion
    gives the parabola's square half of its weight, which makes it second order.)

    The first two steps have fewer x_0 and the last two no parabola, which overshoots where they are long: these are the
    steps of ``dpmpp_2m_sde``.
    """

    eta: Share = 1.0

    def steps(self, denoise: Denoise, x_T: Tensor, chain: Chain, noise: Noise, variance: Variance) -> Iterator[Tensor]:
        x = x_T
        steps = steps_of(chain)
        history: list[tuple[Tensor, float]] = []  # x_0 and step width h of the previous steps, newest first
        for step in steps:
            start, end, h = step
            x_0 = D = denoise(x, start.t).x_0
            if history and end.sigma > 0:
                x_0_1, h_1 = history[0]
                slope = (x_0 - x_0_1) * (h / h_1)
                D = x_0 + slope / 2
                if len(history) == 2 and step is not steps[-2]:
                    x_0_2, h_2 = history[1]
                    curve = (slope - (x_0_1 - x_0_2) * (h / h_2)) * (h / (h_1 + h_2))
                    gain = step.gain(self.eta)
                    k = (1 + self.eta) * h
                    mean = 1 / gain - 1 / k  # of s over the step from 0 to 1, and below of s^2, weighted by e^(k s)
                    D = x_0 + mean * (slope + h_1 / h * curve) + (1 / gain - 2 * mean / k) * curve
            x = sde_step(x, D, step, self.eta, noise)
            history = [(x_0, h), *history[:1]]
            yield x
