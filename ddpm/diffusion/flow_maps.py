"""Objectives that learn where the probability-flow ODE leads, so that one evaluation is a long step. Boffi et al. 2024
(arXiv:2406.07507) call it a flow map.

x_t and the x_s that the ODE leads to determine one pair (x_0, epsilon) of which both are mixtures. That pair is what
the network's output means, by any parameterization: a step is DDIM's with it. For s = t it is a denoiser's, for s = 0
its x_0 is the consistency function, and epsilon - x_0 is MeanFlow's mean velocity and the shortcut of shortcut models,
with x / (signal + sigma) as their x and sigma / (signal + sigma) as their time, under every schedule.
"""

from abc import abstractmethod
from dataclasses import replace
from typing import ClassVar

from ddpm.base.sections import Share
from ddpm.base.tensor import Tensor
from ddpm.diffusion.batch import Batch, NoisyBatch
from ddpm.diffusion.loss import Estimate, Loss, Network
from ddpm.diffusion.parameterization import Prediction

Pair = tuple[Tensor, Tensor]  # x_0 and epsilon, (B, C, H, W) each


class FlowMapLoss(Loss):
    """Contract of such an objective: ``times`` chooses where maps lead, ``target`` asks the network itself which
    (x_0, epsilon) they mean. Both get the images that learn maps; the others learn to be denoised.

    The loss is the output's mean squared error L, weighted by 1 / (L + c)^power without gradient: MeanFlow's adaptive
    weight (arXiv:2505.13447, section 4.3), and pseudo-Huber's for power = 1/2. It is written as the function with that
    gradient, (L + c)^(1 - power) / (1 - power), or log(L + c), which falls while the network learns. Above 0 it prefers
    likely answers to their mean, and the more so the fewer pixels an image has: then L itself is a matter of chance.
    """

    c: ClassVar[float] = 1e-3
    every: ClassVar[int] = 1
    """Every so many images learn a map."""

    power: Share = 0.0

    @property
    def signed(self) -> bool:
        return self.power == 1

    @abstractmethod
    def times(self, batch: Batch, T: int) -> tuple[Tensor, Tensor]:
        """t and s, (B,) int64, from and to which maps lead, by the batch's own t."""

    @abstractmethod
    def target(self, network: Network, batch: Batch, noisy: NoisyBatch, s: Tensor) -> Pair:
        """The (x_0, epsilon) of the map from x_t to x_s."""

    def __call__(self, network: Network, batch: Batch) -> Tensor:
        import torch

        rows = batch.draws.one_of(self.every)
        maps = batch[rows]
        t, s = batch.t.clone(), batch.t.clone()  # s = t is a denoiser's
        t[rows], s[rows] = self.times(maps, len(network.chain))
        noisy = network.diffuse(batch, t)
        x_0, epsilon = noisy.x_0.clone(), noisy.epsilon.clone()
        if len(maps):
            with torch.no_grad():
                x_0[rows], epsilon[rows] = self.target(network, maps, noisy[rows], s[rows])
        output = network(batch, noisy.x_t, t, noisy.at, s)
        return self.measure(Estimate(network, replace(noisy, x_0=x_0, epsilon=epsilon), output))

    def measure(self, estimate: Estimate) -> Tensor:
        error = estimate.squared_error() + self.c
        return error.log() if self.power == 1 else error ** (1 - self.power) / (1 - self.power)


def predict(network: Network, batch: Batch, x: Tensor, t: Tensor, s: Tensor) -> Prediction:
    """The network's own prediction for the map from x at t to s."""
    at = network.chain.at(t)
    return network.parameterization.predict(network(batch, x, t, at, s), x, at)


def mix(network: Network, pair: Prediction | NoisyBatch, s: Tensor) -> Tensor:
    """x_s, the mixture of x_0 and epsilon at s in 0..T-1 of the network's chain."""
    after = network.chain.at(s + 1)
    return after.signal_prev * pair.x_0 + after.sigma_prev * pair.epsilon
