"""EDM's stochastic sampler: Heun's steps, each of which removes more noise than it should and gets the rest afresh.
Karras et al. 2022 (arXiv:2206.00364), Algorithm 2."""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated

from pydantic import Field

from ddpm.base.tensor import Tensor
from ddpm.diffusion.variance import Variance
from ddpm.sampling.sampler import Chain, Denoise, Noise, Sampler, levels

Sigma = Annotated[float, Field(ge=0, le=1e5)]


class EDMStochastic(Sampler):
    """``s_churn`` = 0 is ``heun``. The names are EDM's; ``s_tmin`` and ``s_tmax`` are in sigma / signal.

    Algorithm 2 raises the noise from t_i to (1 + gamma) t_i and evaluates the network there. The network knows only the
    chain's t, so here (1 + gamma) t_i is what the chain visits: a step goes down to ``low``, its end's over 1 + gamma,
    and fresh noise brings it up to the end. The second evaluation is at the visited level nearest to ``low``, and the
    curvature that it shows is used down to ``low`` itself, with the weight of ``heun``.
    """

    s_churn: Annotated[float, Field(ge=0, le=1e4)] = 40.0
    s_tmin: Sigma = 0.05
    s_tmax: Sigma = 50.0
    s_noise: Annotated[float, Field(gt=0, le=2)] = 1.003

    def steps(self, denoise: Denoise, x_T: Tensor, chain: Chain, noise: Noise, variance: Variance) -> Iterator[Tensor]:
        x, path = x_T, levels(chain.schedule)
        for step, (start, end) in enumerate(pairwise(path), start=1):
            x_0, epsilon, _ = denoise(x, start.t)
            x = end.signal * x_0 + end.sigma * epsilon
            if end.sigma > 0:
                churned = self.s_tmin <= end.sigma / end.signal <= self.s_tmax
                gamma = min(self.s_churn / len(chain), 2**0.5 - 1) if churned else 0.0
                log_ratio = end.log_ratio + math.log1p(gamma)
                near = min(path[step:-1], key=lambda level: abs(level.log_ratio - log_ratio))
                high, middle = (math.atan2(level.sigma, level.signal) for level in (start, near))
                low = math.atan(math.exp(-log_ratio))
                half = math.sin((high - middle) / 2)
                weight = math.sin((high - low) / 2) ** 2 / half
                weight /= math.sin((high + middle) / 2) - near.signal * start.signal**2 * half
                change = denoise(near.signal * x_0 + near.sigma * epsilon, near.t).x_0 - x_0
                x = end.signal * (x_0 + math.tan(low) * epsilon + weight / math.cos(low) * change)
                if gamma > 0:
                    x = x + self.s_noise * end.sigma * (1 - (1 + gamma) ** -2) ** 0.5 * noise(start.t)
            yield x

    def evaluations(self, steps: int) -> int:
        return 2 * steps - 1
