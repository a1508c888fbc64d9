"""The network predicts the flow epsilon - x_0, rectified flow's velocity. Liu et al. 2022 (arXiv:2209.03003)."""

from ddpm.base.tensor import Tensor
from ddpm.diffusion.coefficients import Coefficients
from ddpm.diffusion.parameterization import Parameterization, Prediction


class Flow(Parameterization):
    """Under any schedule, not only ``rectified_flow``: x_t / (signal + sigma) is a point on the straight line from x_0
    to epsilon."""

    def target(self, x_0: Tensor, epsilon: Tensor, at: Coefficients) -> Tensor:
        return epsilon - x_0

    def predict(self, output: Tensor, x_t: Tensor, at: Coefficients) -> Prediction:
        length = at.signal + at.sigma
        return Prediction((x_t - at.sigma * output) / length, (x_t + at.signal * output) / length)

    def x_0_scale(self, at: Coefficients) -> Tensor:
        """The square of the share of sigma in signal + sigma."""
        return (at.sigma / (at.signal + at.sigma)).square()
