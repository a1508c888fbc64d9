"""iPNDM: DDIM's step along an Adams-Bashforth mean of the last four epsilon. Zhang & Chen 2022 (arXiv:2204.13902), who
simplify PNDM (Liu et al. 2022, arXiv:2202.09778)."""

from collections.abc import Iterator

from ddpm.base.tensor import Tensor
from ddpm.diffusion.variance import Variance
from ddpm.sampling.sampler import Chain, Denoise, Noise, Sampler, steps_of

# by the number of epsilon there are, newest first
ADAMS_BASHFORTH = ((1,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))


class IPNDM(Sampler):
    """Deterministic. The weights are those of even steps in sigma / signal, whatever the steps are: second order where
    their width changes smoothly."""

    def steps(self, denoise: Denoise, x_T: Tensor, chain: Chain, noise: Noise, variance: Variance) -> Iterator[Tensor]:
        x = x_T
        history: list[Tensor] = []  # epsilon, newest first
        for start, end, _ in steps_of(chain):
            x_0, epsilon, _ = denoise(x, start.t)
            history = [epsilon, *history[:3]]
            x = end.signal * x_0 + end.sigma * epsilon
            if len(history) > 1:
                weights = ADAMS_BASHFORTH[len(history) - 1]
                mean = sum(weight * past for weight, past in zip(weights, history, strict=True))
                x = x + (end.sigma - end.signal * start.sigma / start.signal) * (mean - epsilon)
            yield x
