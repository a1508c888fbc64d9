"""L_simple less a share of the error of another image's target. Contrastive flow matching, Stoica et al. 2025
(arXiv:2506.05350)."""

from dataclasses import replace
from typing import ClassVar

from ddpm.base.sections import Fraction
from ddpm.base.tensor import Tensor
from ddpm.diffusion.batch import Batch
from ddpm.diffusion.loss import Estimate, Loss, Network, estimate


class Contrastive(Loss):
    """|output - target|^2 - weight |output - other target|^2, of the next image in the batch with noise of its own.

    Its gradient is that of (1 - weight) L_simple towards (target - weight other target) / (1 - weight): on average,
    the usual target pushed away from the mean of all, by images of every class.
    """

    contrasts: ClassVar[bool] = True

    weight: Fraction = 0.05

    @property
    def signed(self) -> bool:
        return True

    def __call__(self, network: Network, batch: Batch) -> Tensor:
        own = estimate(network, batch)
        other = replace(own.noisy, x_0=batch.others, epsilon=batch.draws.gaussian("contrast"))
        return self.measure(own) - self.weight * self.measure(own._replace(noisy=other))

    def measure(self, estimate: Estimate) -> Tensor:
        return estimate.squared_error()
