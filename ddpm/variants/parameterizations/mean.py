"""The network predicts the posterior mean, as a step from x_t scaled to unit size. Ho et al. 2020 (arXiv:2006.11239),
equations 7 and 8."""

from __future__ import annotations

from ddpm.base.tensor import Tensor
from ddpm.diffusion.coefficients import Coefficients
from ddpm.diffusion.parameterization import Parameterization, Prediction


class Mean(Parameterization):
    """The mean of q(x_{t-1} | x_t, x_0) is x_t + step_scale * output: one step of the whole chain, however many are
    sampled.

    The mean is nearly x_t. A network that puts out the mean itself spends its precision on a copy of x_t, and x_0
    depends on the small rest: errors grow by 1 / posterior_x_0, hundredfold over most of the chain. So x_t is added
    outside the network. Less equation 7's term in x_t the mean is x_0, less equation 11's it is epsilon, each scaled;
    less x_t it is a third target, close to -epsilon, from which x_0 is known at zero SNR too.
    """

    def target(self, x_0: Tensor, epsilon: Tensor, at: Coefficients) -> Tensor:
        from ddpm.diffusion.chain import q_sample

        return (at.posterior_x_0 * x_0 - at.step_x_t * q_sample(x_0, epsilon, at)) / at.step_scale

    def predict(self, output: Tensor, x_t: Tensor, at: Coefficients) -> Prediction:
        from ddpm.diffusion.chain import epsilon_from_x_0

        x_0 = (at.step_x_t * x_t + at.step_scale * output) / at.posterior_x_0
        return Prediction(x_0, epsilon_from_x_0(x_0, x_t, at))

    def x_0_scale(self, at: Coefficients) -> Tensor:
        return (at.step_scale / at.posterior_x_0).square()
