"""The chain's constants at each image's t, and the formulas of Ho et al. 2020 (arXiv:2006.11239) that combine them.

Images are (B, C, H, W) in about [-1, 1].
"""

from typing import NamedTuple

from ddpm.base.tensor import Tensor


class Coefficients(NamedTuple):
    """The chain's constants at each image's t, each (B, 1, 1, 1).

    signal: sqrt(alpha_bar); sigma: sqrt(1 - alpha_bar); *_prev: the same one step earlier, 1 and 0 at the first step;
    log_beta_tilde: at the first step, where beta_tilde is 0, the second step's, as in the paper's code;
    posterior_x_0, posterior_x_t: the weights of equation 7.
    """

    alpha_bar: Tensor
    signal: Tensor
    sigma: Tensor
    signal_prev: Tensor
    sigma_prev: Tensor
    log_beta: Tensor
    log_beta_tilde: Tensor
    posterior_x_0: Tensor
    posterior_x_t: Tensor


def q_sample(x_0: Tensor, epsilon: Tensor, at: Coefficients) -> Tensor:
    """x_t ~ q(x_t | x_0), equation 4."""
    return at.signal * x_0 + at.sigma * epsilon


def epsilon_from_x_0(x_0: Tensor, x_t: Tensor, at: Coefficients) -> Tensor:
    """The noise that turns x_0 into x_t: equation 4 solved for epsilon."""
    return (x_t - at.signal * x_0) / at.sigma


def posterior_mean(x_0: Tensor, x_t: Tensor, at: Coefficients) -> Tensor:
    """Mean of q(x_{t-1} | x_t, x_0), equation 7."""
    return at.posterior_x_0 * x_0 + at.posterior_x_t * x_t
