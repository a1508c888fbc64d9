"""The network predicts the velocity v. Salimans & Ho 2022 (arXiv:2202.00512), section 4 and appendix D."""

from ddpm.base.tensor import Tensor
from ddpm.diffusion.coefficients import Coefficients
from ddpm.diffusion.parameterization import Parameterization, Prediction


class V(Parameterization):
    def target(self, x_0: Tensor, epsilon: Tensor, at: Coefficients) -> Tensor:
        return at.signal * epsilon - at.sigma * x_0

    def predict(self, output: Tensor, x_t: Tensor, at: Coefficients) -> Prediction:
        return Prediction(at.signal * x_t - at.sigma * output, at.sigma * x_t + at.signal * output)

    def x_0_scale(self, at: Coefficients) -> Tensor:
        """1 / (1 + SNR)."""
        return at.sigma.square()
