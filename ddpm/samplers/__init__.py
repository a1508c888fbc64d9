"""Samplers: from noise to images.

Contract: ``steps`` is a function of the denoiser, x_T, the chain and the noise; nothing else is drawn.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ddpm.variants import Variant

if TYPE_CHECKING:
    from torch import Tensor

    from ddpm.diffusion import Chain
    from ddpm.parameterizations import Prediction
    from ddpm.variances import Variance

# (x_t, t of the training chain) -> the network's belief
Denoise = Callable[["Tensor", int], "Prediction"]
# t of the training chain -> standard normal noise of x's shape
Noise = Callable[[int], "Tensor"]


class Sampler(Variant, ABC):
    """Contract of a sampler."""

    @abstractmethod
    def steps(self, denoise: Denoise, x_T: Tensor, chain: Chain, noise: Noise, variance: Variance) -> Iterator[Tensor]:
        """Yield x after each step, (B, C, H, W); the last is the image, in about [-1, 1].

        ``chain`` is respaced to the steps to be visited, its schedule's ``timesteps`` are the training chain's t;
        ``variance`` is the reverse step's, for the samplers that draw from p(x_{t-1} | x_t).
        """

    def evaluations(self, steps: int) -> int:
        """NFE: network evaluations per image."""
        return steps
