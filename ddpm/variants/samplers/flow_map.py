"""Each step is one evaluation of a flow map: the sampler of shortcut models, Frans et al. 2024 (arXiv:2410.12557), and
of MeanFlow, Geng et al. 2025 (arXiv:2505.13447)."""

from collections.abc import Iterator
from typing import ClassVar

from ddpm.base.tensor import Tensor
from ddpm.diffusion.loss import Learns
from ddpm.diffusion.variance import Variance
from ddpm.sampling.sampler import Chain, Denoise, Noise, Sampler, steps_of


class FlowMapSampler(Sampler):
    """Deterministic: ``ddim`` with eta = 0, but the network knows where the step ends."""

    needs: ClassVar[Learns] = "flow map"

    def steps(self, denoise: Denoise, x_T: Tensor, chain: Chain, noise: Noise, variance: Variance) -> Iterator[Tensor]:
        x = x_T
        for start, end, _ in steps_of(chain):
            x_0, epsilon, _ = denoise(x, start.t, end=end.t)
            x = end.signal * x_0 + end.sigma * epsilon
            yield x
