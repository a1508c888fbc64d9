"""The network predicts the posterior mean, as a step from x_t scaled to unit size. Ho et al. 2020 (arXiv:2006.11239),
equations 7 and 8."""

from ddpm.base.tensor import Tensor
from ddpm.diffusion.coefficients import Coefficients, epsilon_from_x_0, q_sample
from ddpm.diffusion.parameterization import Parameterization, Prediction


class Mean(Parameterization):
    """The mean of q(x_{t-1} | x_t, x_0) is x_t + step_scale * output, for a step of the training chain even if sampling
    visits fewer.

    The mean is nearly x_t. A network that outputs the mean itself spends its precision on a copy of x_t, and x_0
    depends on the small rest, so errors grow by 1 / posterior_x_0: a hundredfold over most of the chain. So x_t is
    added outside the network. The mean minus equation 7's term in x_t is a multiple of x_0, minus equation 11's a
    multiple of epsilon; minus x_t it is a third target, close to -epsilon, that determines x_0 even at zero SNR.
    """

    def target(self, x_0: Tensor, epsilon: Tensor, at: Coefficients) -> Tensor:
        return (at.posterior_x_0 * x_0 - at.step_x_t * q_sample(x_0, epsilon, at)) / at.step_scale

    def predict(self, output: Tensor, x_t: Tensor, at: Coefficients) -> Prediction:
        x_0 = (at.step_x_t * x_t + at.step_scale * output) / at.posterior_x_0
        return Prediction(x_0, epsilon_from_x_0(x_0, x_t, at))

    def x_0_scale(self, at: Coefficients) -> Tensor:
        return (at.step_scale / at.posterior_x_0).square()
