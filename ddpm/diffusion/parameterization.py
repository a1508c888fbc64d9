"""What the network predicts.

Contract: ``target`` is what the network learns to output; ``predict`` turns an output into (x_0, epsilon);
``x_0_scale`` converts squared errors, so that losses are weighted in one place, on x_0. The network itself does not
depend on any of this.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

from ddpm.base.tensor import Tensor
from ddpm.base.variant import Variant
from ddpm.diffusion.coefficients import Coefficients


class Prediction(NamedTuple):
    """The network's estimate of x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) epsilon, (B, C, H, W) each, and its
    output for the variance, if that is learned."""

    x_0: Tensor
    epsilon: Tensor
    variance_output: Tensor | None = None


class Parameterization(Variant, ABC):
    """Contract of a parameterization. ``at`` holds the chain's constants at each image's t, (B, 1, 1, 1)."""

    divides_by_signal: ClassVar[bool] = False
    """Whether x_0 cannot be computed from the output if sqrt(alpha_bar) is 0."""
    needs_float32: ClassVar[bool] = False
    """Whether ``precision: auto`` is float32, because x_0 magnifies the output's rounding."""

    def network_input(self, x_t: Tensor, at: Coefficients) -> Tensor:
        """The network's input, (B, C, H, W): x_t, unless the variant scales it."""
        return x_t

    @abstractmethod
    def target(self, x_0: Tensor, epsilon: Tensor, at: Coefficients) -> Tensor:
        """The output that the network learns, (B, C, H, W), for the x_t made from x_0 and epsilon."""

    @abstractmethod
    def predict(self, output: Tensor, x_t: Tensor, at: Coefficients) -> Prediction:
        """x_0 and epsilon, each (B, C, H, W), from the network's output."""

    @abstractmethod
    def x_0_scale(self, at: Coefficients) -> Tensor:
        """(B, 1, 1, 1): the squared error of x_0 is this times the squared error of the output."""
