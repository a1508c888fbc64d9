"""Training objectives.

Contract: a variant is a function of a network and a batch, to each image's loss. It draws the batch's noise, asks the
network once or more, and compares. Most only ``measure`` a denoiser's estimate; ddpm/diffusion/flow_maps.py has others.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple, Protocol

from ddpm.base import variant
from ddpm.base.tensor import Tensor
from ddpm.base.variant import Variant
from ddpm.diffusion.batch import Batch, NoisyBatch
from ddpm.diffusion.coefficients import Coefficients, posterior_mean
from ddpm.diffusion.parameterization import Parameterization
from ddpm.diffusion.schedule import Schedule
from ddpm.diffusion.variance import Variance

if TYPE_CHECKING:
    from ddpm.diffusion.chain import Chain  # importing torch takes a second

Space = Literal["x0", "epsilon", "v", "flow"]
# what sampling may ask a network for: see ddpm/diffusion/flow_maps.py
Learns = Literal["denoiser", "consistency", "flow map"]
# what an error of x_0 becomes in each space, times sigma and up to its sign
SPACES: dict[Space, Callable[[Coefficients], Tensor]] = {
    "x0": lambda at: at.sigma,
    "epsilon": lambda at: at.signal,
    "v": lambda at: at.signal.new_ones(at.signal.shape),
    "flow": lambda at: at.signal + at.sigma,
}


class Network(Protocol):
    """A network as losses ask it, with what gives its input and output their meaning."""

    chain: Chain
    parameterization: Parameterization
    variance: Variance
    total: int  # steps of the whole training

    def diffuse(self, batch: Batch, t: Tensor) -> NoisyBatch:
        """Draw epsilon, and make x_t of it: Algorithm 1, line 4, and equation 4."""
        ...

    def __call__(
        self, batch: Batch, x: Tensor, t: Tensor, at: Coefficients, s: Tensor | None = None, precise: bool = False
    ) -> Tensor:
        """Its output for x at t, (B, variance.outputs * C, H, W) float32, for the batch's labels, augmentations and
        dropout.

        at: the chain's constants at t. s: (B,) where a flow map leads; without it the output is a denoiser's. precise:
        nothing is computed in less than float32.
        """
        ...


class Estimate(NamedTuple):
    """A network's output, float32, for a noisy batch. variance_output: its second half, if the variance is learned."""

    network: Network
    noisy: NoisyBatch
    output: Tensor
    variance_output: Tensor | None = None

    def squared_error(self, space: Space | None = None) -> Tensor:
        """(B,) mean squared error between the output and the parameterization's target, or in another ``space``."""
        parameterization, at = self.network.parameterization, self.noisy.at
        target = parameterization.target(self.noisy.x_0, self.noisy.epsilon, at)
        error = (self.output - target).square().mean(dim=(1, 2, 3))
        if space is None:
            return error
        scale = (SPACES[space](at) / at.sigma).square() * parameterization.x_0_scale(at)
        return scale.flatten() * error

    def bound(self) -> Tensor:
        """(B,) bits per dimension: T times equation 5's term at t, so that its mean over uniform t is the whole bound
        but for the constant L_T. Computed in float64, as gradients of far tails are differences of large numbers."""
        from ddpm.diffusion.chain import bound_term

        network, at, x_t = self.network, self.noisy.at, self.noisy.x_t.double()
        x_0 = network.parameterization.predict(self.output, self.noisy.x_t, at).x_0.double()
        log_variance = network.variance.log_variance(at, self.variance_output).double()
        nats = bound_term(self.noisy.x_0.double(), x_t, posterior_mean(x_0, x_t, at), log_variance, at)
        return nats.mean(dim=(1, 2, 3)).to(self.output) * (len(network.chain) / math.log(2))


def estimate(network: Network, batch: Batch) -> Estimate:
    """The network's output for the batch, diffused to its t."""
    noisy = network.diffuse(batch, batch.t)
    return Estimate(network, noisy, *network.variance.split(network(batch, noisy.x_t, noisy.t, noisy.at)))


class Loss(Variant, ABC):
    """Contract of an objective."""

    learns: ClassVar[tuple[Learns, ...]] = ("denoiser",)
    """What sampling may ask of its network."""
    passes: ClassVar[float] = 0.0
    """Forward passes an image, besides the one that the gradient flows through."""
    outputs: ClassVar[tuple[int, ...]] = (1,)
    """The ``outputs`` of the variances that it goes with: 2 if it trains a learned one."""
    contrasts: ClassVar[bool] = False
    """Whether it needs ``Batch.others``."""

    @property
    def signed(self) -> bool:
        """Whether an image's loss may be negative."""
        return False

    def __call__(self, network: Network, batch: Batch) -> Tensor:
        """Each image's loss, (B,) float32: Algorithm 1, lines 4 and 5."""
        return self.measure(estimate(network, batch))

    @abstractmethod
    def measure(self, estimate: Estimate) -> Tensor:
        """Each image's loss, (B,) float32, for a network's estimate."""

    def clock(self, t: Tensor, T: int) -> Tensor:
        """t, or a span, as the network is shown it: (B,), int64 or floating, for a chain of T steps."""
        return t

    def refusals(self, schedule: Schedule, T: int, target: Parameterization) -> Iterator[str]:
        """Why its fields cannot work with the ``schedule`` in T steps and that ``target``, if they cannot."""
        yield from ()


class SNRWeighted(Loss):
    """Squared error of x_0 with a weight that depends only on SNR = alpha_bar / (1 - alpha_bar).

    It is the same objective for every parameterization, because the error of the output is converted to x_0's.
    """

    @abstractmethod
    def weight(self, snr: Tensor) -> Tensor:
        """The weight of x_0's squared error at ``snr``, of any shape."""

    def refusals(self, schedule: Schedule, T: int, target: Parameterization) -> Iterator[str]:
        if schedule.zero_terminal_snr:
            classes = {name: variant.variant_class("losses", name) for name in variant.names("losses")}
            others = ", ".join(name for name, each in classes.items() if not issubclass(each, SNRWeighted))
            yield (
                f"loss: {self.name} has no weight at t = T, where schedule.{schedule.name}.zero_terminal_snr: true "
                f"leaves no signal and sampling begins; allowed: {others}"
            )

    def measure(self, estimate: Estimate) -> Tensor:
        at = estimate.noisy.at
        weight = self.weight((at.signal / at.sigma).square()) * estimate.network.parameterization.x_0_scale(at)
        return weight.flatten() * estimate.squared_error()
