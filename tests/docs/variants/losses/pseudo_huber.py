"""The pseudo-Huber error on the network's target: squared where it is small, absolute where it is large. Our own use of
Charbonnier et al. 1997."""

from pydantic import PositiveFloat

from ddpm.base.tensor import Tensor
from ddpm.diffusion.loss import Estimate, Loss


class PseudoHuber(Loss):
    """``c``: the error at which one turns into the other."""

    c: PositiveFloat = 0.3

    def measure(self, estimate: Estimate) -> Tensor:
        noisy = estimate.noisy
        target = estimate.network.parameterization.target(noisy.x_0, noisy.epsilon, noisy.at)
        error = estimate.output - target
        return ((error.square() + self.c**2).sqrt() - self.c).mean(dim=(1, 2, 3))
