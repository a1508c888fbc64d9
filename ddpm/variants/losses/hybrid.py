"""L_hybrid = L_simple + lambda L_vlb, whose second part trains only the variance. Improved DDPM, Nichol & Dhariwal 2021
(arXiv:2102.09672), equation 16."""

from typing import ClassVar

from pydantic import PositiveFloat

from ddpm.base.tensor import Tensor
from ddpm.diffusion.loss import Estimate, Loss


class Hybrid(Loss):
    """lambda_vlb: the paper's lambda. Its L_vlb is in bits per dimension, the mean over the steps times T."""

    outputs: ClassVar[tuple[int, ...]] = (2,)

    lambda_vlb: PositiveFloat = 0.001

    def measure(self, estimate: Estimate) -> Tensor:
        bound = estimate._replace(output=estimate.output.detach()).bound()
        return estimate.squared_error() + self.lambda_vlb * bound
