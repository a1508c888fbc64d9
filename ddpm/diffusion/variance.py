"""The variance of the reverse step p(x_{t-1} | x_t).

Contract: ``log_variance`` gives it for each image.
"""

from abc import ABC, abstractmethod

from ddpm.base.tensor import Tensor
from ddpm.base.variant import Variant
from ddpm.diffusion.coefficients import Coefficients


class Variance(Variant, ABC):
    """Contract of a reverse variance."""

    @abstractmethod
    def log_variance(self, at: Coefficients) -> Tensor:
        """log sigma_t^2, (B, 1, 1, 1)."""
