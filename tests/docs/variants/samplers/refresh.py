"""DDIM with a part of the noise drawn again at each step, between ddim (0) and ancestral (1). Our own."""

import math
from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from ddpm.base.tensor import Tensor
from ddpm.diffusion.variance import Variance
from ddpm.sampling.sampler import Chain, Denoise, Noise, Sampler, steps_of


class Refresh(Sampler):
    """``share``: how much is drawn again. A step of width h in log(signal / sigma) keeps exp(-share h) of the noise."""

    share: Annotated[float, Field(gt=0, le=1)] = 0.5

    def steps(self, denoise: Denoise, x_T: Tensor, chain: Chain, noise: Noise, variance: Variance) -> Iterator[Tensor]:
        x = x_T
        for start, end, h in steps_of(chain):
            x_0, epsilon, _ = denoise(x, start.t)
            keep = math.exp(-self.share * h)
            x = end.signal * x_0 + end.sigma * (keep * epsilon + (1 - keep**2) ** 0.5 * noise(start.t))
            yield x
