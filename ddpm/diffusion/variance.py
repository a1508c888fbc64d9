"""The variance of the reverse step p(x_{t-1} | x_t).

Contract: ``log_variance`` gives it for each image, or for each pixel if the network learns it: then the network has
twice as many output channels as the image, and ``split`` tells the halves apart.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

from ddpm.base.tensor import Tensor
from ddpm.base.variant import Variant
from ddpm.diffusion.coefficients import Coefficients


class Variance(Variant, ABC):
    """Contract of a reverse variance."""

    outputs: ClassVar[int] = 1
    """How many times the image's channels the network puts out: 2 if the variance is learned."""

    @abstractmethod
    def log_variance(self, at: Coefficients, variance_output: Tensor | None = None) -> Tensor:
        """log sigma_t^2, (B, 1, 1, 1), or (B, C, H, W) if it is learned, from the ``variance_output`` of ``split``."""

    def split(self, output: Tensor) -> tuple[Tensor, Tensor | None]:
        """The network's output, (B, outputs * C, H, W), as the prediction and the output for the variance, (B, C, H, W)
        each; None if the variance is fixed."""
        if self.outputs == 1:
            return output, None
        prediction, variance_output = output.chunk(2, dim=1)
        return prediction, variance_output
