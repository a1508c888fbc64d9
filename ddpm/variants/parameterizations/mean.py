"""The network predicts the mean of q(x_{t-1} | x_t, x_0), the posterior. Ho et al. 2020 (arXiv:2006.11239), equations 7
and 8."""

from ddpm.base.tensor import Tensor
from ddpm.diffusion.coefficients import Coefficients, epsilon_from_x_0, posterior_mean, q_sample
from ddpm.diffusion.parameterization import Parameterization, Prediction


class Mean(Parameterization):
    """Of a step of the training chain, even if sampling visits fewer; at t = 1 it is x_0 itself.

    Where a step is short the mean is nearly x_t, and x_0 depends on the small rest: an error of the output is
    1 / posterior_x_0 times as large in x_0, 230 times in the middle of the cosine chain of 1000 steps. So L_simple on
    the mean is a poor objective, as in the paper's table 2, and bfloat16 is too coarse. At zero SNR the mean is
    sqrt(alpha_bar_{T-1}) x_0, which still determines x_0.
    """

    needs_float32 = True

    def target(self, x_0: Tensor, epsilon: Tensor, at: Coefficients) -> Tensor:
        return posterior_mean(x_0, q_sample(x_0, epsilon, at), at)

    def predict(self, output: Tensor, x_t: Tensor, at: Coefficients) -> Prediction:
        x_0 = (output - at.posterior_x_t * x_t) / at.posterior_x_0
        return Prediction(x_0, epsilon_from_x_0(x_0, x_t, at))

    def x_0_scale(self, at: Coefficients) -> Tensor:
        return at.posterior_x_0.square().reciprocal()
