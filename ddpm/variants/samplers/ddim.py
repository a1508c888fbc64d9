"""Denoising diffusion implicit models. Song et al. 2020 (arXiv:2010.02502), equations 12 and 16."""

from collections.abc import Iterator

from ddpm.base.sections import Share
from ddpm.base.tensor import Tensor
from ddpm.diffusion.variance import Variance
from ddpm.sampling.sampler import Chain, Denoise, Noise, Sampler, steps_of


class DDIM(Sampler):
    """``eta`` = 0 is deterministic; 1 has the variance of the ancestral sampler with fixed_small."""

    eta: Share = 0.0

    def steps(self, denoise: Denoise, x_T: Tensor, chain: Chain, noise: Noise, variance: Variance) -> Iterator[Tensor]:
        x = x_T
        deviations = self.eta * chain.schedule.beta_tilde[::-1] ** 0.5
        for (start, end, _), deviation in zip(steps_of(chain), deviations.tolist(), strict=True):
            x_0, epsilon, _ = denoise(x, start.t)
            x = end.signal * x_0 + max(end.sigma**2 - deviation**2, 0) ** 0.5 * epsilon
            if deviation > 0:
                x = x + deviation * noise(start.t)
            yield x
