"""The network predicts the clean image. Ho et al. 2020 (arXiv:2006.11239), section 3.2."""

from ddpm.base.tensor import Tensor
from ddpm.diffusion.coefficients import Coefficients, epsilon_from_x_0
from ddpm.diffusion.parameterization import Parameterization, Prediction


class X0(Parameterization):
    def target(self, x_0: Tensor, epsilon: Tensor, at: Coefficients) -> Tensor:
        return x_0

    def predict(self, output: Tensor, x_t: Tensor, at: Coefficients) -> Prediction:
        return Prediction(output, epsilon_from_x_0(output, x_t, at))

    def x_0_scale(self, at: Coefficients) -> Tensor:
        return at.signal.new_ones(at.signal.shape)
