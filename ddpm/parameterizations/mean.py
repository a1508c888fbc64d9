"""The network predicts the posterior mean. Ho et al. 2020 (arXiv:2006.11239), equations 7 and 8."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddpm.parameterizations import Parameterization, Prediction

if TYPE_CHECKING:
    from torch import Tensor

    from ddpm.diffusion import Coefficients


class Mean(Parameterization):
    """The mean of q(x_{t-1} | x_t, x_0), which at t = 1 is x_0; one step of the whole chain, however many are sampled.

    It is mostly x_t: x_0 is told from the small rest, so errors of the output count the more the longer the chain.
    """

    def target(self, x_0: Tensor, epsilon: Tensor, at: Coefficients) -> Tensor:
        from ddpm.diffusion import posterior_mean, q_sample

        return posterior_mean(x_0, q_sample(x_0, epsilon, at), at)

    def predict(self, output: Tensor, x_t: Tensor, at: Coefficients) -> Prediction:
        from ddpm.diffusion import epsilon_from_x_0

        x_0 = (output - at.posterior_x_t * x_t) / at.posterior_x_0
        return Prediction(x_0, epsilon_from_x_0(x_0, x_t, at))

    def x_0_scale(self, at: Coefficients) -> Tensor:
        return at.posterior_x_0.square().reciprocal()
