"""L_hybrid = L_simple + lambda L_vlb, where L_vlb only trains the variance. Improved DDPM (arXiv:2102.09672),
equation 16."""

from pydantic import PositiveFloat

from ddpm.base.tensor import Tensor
from ddpm.diffusion.loss import Estimate, Loss


class Hybrid(Loss):
    """``lambda_vlb`` applies to L_vlb in bits per dimension."""

    trains_variance = True
    needs_learned_variance = True

    lambda_vlb: PositiveFloat = 0.001

    def measure(self, estimate: Estimate) -> Tensor:
        return estimate.squared_error() + self.lambda_vlb * estimate.bound(detach_mean=True)
