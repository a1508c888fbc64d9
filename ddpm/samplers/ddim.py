"""Denoising diffusion implicit models. Song et al. 2020 (arXiv:2010.02502), equations 12 and 16."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from ddpm.samplers import Denoise, Noise, Sampler

if TYPE_CHECKING:
    from torch import Tensor

    from ddpm.diffusion import Chain
    from ddpm.variances import Variance


class DDIM(Sampler):
    """``eta`` 0 is deterministic; 1 has the ancestral sampler's small variance."""

    eta: Annotated[float, Field(ge=0, le=1)] = 0.0

    def steps(self, denoise: Denoise, x_T: Tensor, chain: Chain, noise: Noise, variance: Variance) -> Iterator[Tensor]:
        x = x_T
        for step in range(len(chain), 0, -1):
            t = chain.timestep(step)
            at = chain.at_step(step)
            x_0, epsilon, _ = denoise(x, t)
            ratio = at.signal / at.signal_prev
            sigma = self.eta * at.sigma_prev / at.sigma * (1 - ratio.square()).clamp(min=0).sqrt()
            x = at.signal_prev * x_0 + (at.sigma_prev.square() - sigma.square()).clamp(min=0).sqrt() * epsilon
            if self.eta > 0 and step > 1:
                x = x + sigma * noise(t)
            yield x
