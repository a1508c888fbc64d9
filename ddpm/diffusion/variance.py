"""The variance of the reverse step p(x_{t-1} | x_t).

Contract: ``log_variance`` gives it per pixel or per image. The network has ``outputs`` times as many output channels
as the image: 2 times if the variance is learned.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

from ddpm.base.tensor import Tensor
from ddpm.base.variant import Variant
from ddpm.diffusion.coefficients import Coefficients


class Variance(Variant, ABC):
    """Contract of a reverse variance."""

    outputs: ClassVar[int] = 1

    @abstractmethod
    def log_variance(self, variance_output: Tensor | None, at: Coefficients) -> Tensor:
        """log sigma_t^2, broadcastable to (B, C, H, W). ``variance_output`` is from ``split``."""

    def split(self, output: Tensor) -> tuple[Tensor, Tensor | None]:
        """The network's output, (B, outputs * C, H, W), as prediction and variance_output, (B, C, H, W) each.

        variance_output is None if the variance is fixed.
        """
        if self.outputs == 1:
            return output, None
        prediction, variance_output = output.chunk(2, dim=1)
        return prediction, variance_output
