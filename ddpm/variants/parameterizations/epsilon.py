"""The network predicts the noise. Ho et al. 2020 (arXiv:2006.11239), equation 14."""

from ddpm.base.tensor import Tensor
from ddpm.diffusion.coefficients import Coefficients
from ddpm.diffusion.parameterization import Parameterization, Prediction


class Epsilon(Parameterization):
    divides_by_signal = True

    def target(self, x_0: Tensor, epsilon: Tensor, at: Coefficients) -> Tensor:
        return epsilon

    def predict(self, output: Tensor, x_t: Tensor, at: Coefficients) -> Prediction:
        return Prediction((x_t - at.sigma * output) / at.signal, output)

    def x_0_scale(self, at: Coefficients) -> Tensor:
        """1 / SNR."""
        return (at.sigma / at.signal).square()
