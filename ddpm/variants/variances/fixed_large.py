"""sigma_t^2 = beta_t, optimal for data from N(0, I). Ho et al. 2020 (arXiv:2006.11239), section 3.2."""

from ddpm.base.tensor import Tensor
from ddpm.diffusion.coefficients import Coefficients
from ddpm.diffusion.variance import Variance


class FixedLarge(Variance):
    """At t = 1 it is beta_tilde_2 instead of beta_1, as in the paper's code: the last step's noise would be visible."""

    def log_variance(self, at: Coefficients, variance_output: Tensor | None = None) -> Tensor:
        return at.log_beta_tilde.where(at.sigma_prev == 0, at.log_beta)
