"""Samplers: from noise to images.

Contract: ``steps`` is a function of the denoiser, x_T, the chain and the noise, and draws nothing else. The
coefficients of a step are Python floats, computed in float64 from the chain's ``levels``.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from ddpm.base import variant
from ddpm.base.tensor import Tensor
from ddpm.base.variant import Variant
from ddpm.diffusion.loss import Learns, Loss
from ddpm.diffusion.parameterization import Prediction
from ddpm.diffusion.schedule import NoiseSchedule
from ddpm.diffusion.variance import Variance

if TYPE_CHECKING:
    from ddpm.diffusion.chain import Chain
else:
    Chain = Any  # for annotations: importing torch takes a second

__all__ = ["Chain", "Denoise", "Level", "Noise", "Sampler", "Step", "levels", "steps_of"]

# (x_t, t of the training chain) -> the network's estimate; with end=s, what it says of the map from t to s
Denoise = Callable[..., Prediction]
# t of the training chain -> standard normal noise of x's shape
Noise = Callable[[int], Tensor]


class Level(NamedTuple):
    """One noise level that sampling visits: x_t = signal x_0 + sigma epsilon, with signal^2 + sigma^2 = 1.

    t is the training chain's, 0 for the image itself. log_ratio is log(signal / sigma), half the log-SNR and the
    lambda of DPM-Solver: -inf if nothing of the image is left (zero terminal SNR), inf at the image.
    """

    t: int
    signal: float
    sigma: float
    log_ratio: float


class Step(NamedTuple):
    """From one level to the next. h: its width in log_ratio, infinite from a level without signal and to the image."""

    start: Level
    end: Level
    h: float


def levels(schedule: NoiseSchedule) -> list[Level]:
    """The schedule's levels from noise to image: its steps in descending t, then the image."""
    signal, sigma = schedule.alpha_bar**0.5, schedule.one_minus_alpha_bar**0.5
    columns = (schedule.timesteps, signal, sigma, schedule.log_snr / 2)
    noisy = map(Level, *(column[::-1].tolist() for column in columns))
    return [*noisy, Level(0, 1.0, 0.0, math.inf)]


def steps_of(chain: Chain) -> list[Step]:
    """The chain's steps, from noise to image."""
    return [Step(start, end, end.log_ratio - start.log_ratio) for start, end in pairwise(levels(chain.schedule))]


class Sampler(Variant, ABC):
    """Contract of a sampler."""

    needs: ClassVar[Learns] = "denoiser"
    """The kind of network that it asks."""

    @abstractmethod
    def steps(self, denoise: Denoise, x_T: Tensor, chain: Chain, noise: Noise, variance: Variance) -> Iterator[Tensor]:
        """Yield x after each step, (B, C, H, W); the last is the image, in about [-1, 1].

        ``chain`` contains only the steps to visit; its schedule's ``timesteps`` are the training chain's t.
        ``variance`` is that of the reverse step, for samplers that draw from p(x_{t-1} | x_t).
        """

    def refusal(self, loss: Loss, weight: float) -> str:
        """Why it cannot draw from a network that the loss trained, with guidance of that weight; empty if it can."""
        if self.needs not in loss.learns:
            return (
                f"sample.sampler: {self.name} needs a {self.needs}, which diffusion.loss: {loss.name} does not train; "
                f"allowed: {variant.having('samplers', 'needs', *loss.learns)}"
            )
        if self.needs != "denoiser" and weight != 1:
            return f"sample.guidance.weight: {weight:g} guides a denoiser, not sample.sampler: {self.name}; allowed: 1"
        return ""
