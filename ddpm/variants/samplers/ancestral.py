"""The paper's sampler. Ho et al. 2020 (arXiv:2006.11239), Algorithm 2; over fewer steps it is the strided
ancestral sampler of Improved DDPM (arXiv:2102.09672), section 4."""

from collections.abc import Iterator

from ddpm.base.tensor import Tensor
from ddpm.diffusion.coefficients import posterior_mean
from ddpm.diffusion.variance import Variance
from ddpm.sampling.sampler import Chain, Denoise, Noise, Sampler


class Ancestral(Sampler):
    """Draws from p(x_{t-1} | x_t) with the variance of ``diffusion.variance``; the last step adds no noise."""

    def steps(self, denoise: Denoise, x_T: Tensor, chain: Chain, noise: Noise, variance: Variance) -> Iterator[Tensor]:
        x = x_T
        for step in range(len(chain), 0, -1):
            t = chain.timestep(step)
            at = chain.at_step(step)
            x_0, _, variance_output = denoise(x, t)
            x = posterior_mean(x_0, x, at)
            if step > 1:
                x = x + (0.5 * variance.log_variance(at, variance_output)).exp() * noise(t)
            yield x
