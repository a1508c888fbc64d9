"""The network predicts EDM's F: the image and the noise, mixed so that input and target have unit variance at every
noise level. Karras et al. 2022 (arXiv:2206.00364), equation 7 and table 1."""

from typing import Annotated

from pydantic import Field

from ddpm.base.tensor import Tensor
from ddpm.diffusion.coefficients import Coefficients
from ddpm.diffusion.parameterization import Parameterization, Prediction


class EDMParameterization(Parameterization):
    """``sigma_data`` is the deviation of the data; at 1, F is -v.

    EDM's image is x_t / signal and its noise level sigma / signal. With n^2 = sigma^2 + (signal sigma_data)^2, the
    variance of x_t, its coefficients are c_in = signal / n, c_out = sigma sigma_data / n and
    c_skip = (signal sigma_data / n)^2. c_in and c_skip multiply x_t / signal, so no formula here divides by the signal.
    Instead of c_noise the network gets t, as with every target.
    """

    # no data in [-1, 1] deviates by more
    sigma_data: Annotated[float, Field(ge=0.001, le=1)] = 0.5

    def network_input(self, x_t: Tensor, at: Coefficients) -> Tensor:
        """x_t with unit variance."""
        return x_t / self._deviation(at)

    def target(self, x_0: Tensor, epsilon: Tensor, at: Coefficients) -> Tensor:
        mixed = at.sigma / self.sigma_data * x_0 - at.signal * self.sigma_data * epsilon
        return mixed / self._deviation(at)

    def predict(self, output: Tensor, x_t: Tensor, at: Coefficients) -> Prediction:
        n, scaled, data = self._deviation(at), self.network_input(x_t, at), self.sigma_data
        x_0 = (at.signal * data * scaled + at.sigma * output) * data / n
        return Prediction(x_0, (at.sigma * scaled - at.signal * data * output) / n)

    def x_0_scale(self, at: Coefficients) -> Tensor:
        """c_out^2."""
        return (at.sigma * self.sigma_data / self._deviation(at)).square()

    def _deviation(self, at: Coefficients) -> Tensor:
        """The standard deviation n of x_t, written as a sum of positive terms that is exactly 1 if sigma_data is."""
        return (self.sigma_data**2 + at.sigma.square() * (1 - self.sigma_data**2)).sqrt()
