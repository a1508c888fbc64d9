"""sigma_t^2 = beta_tilde_t, optimal for data that is a single point. Ho et al. 2020 (arXiv:2006.11239), section 3.2."""

from ddpm.base.tensor import Tensor
from ddpm.diffusion.coefficients import Coefficients
from ddpm.diffusion.variance import Variance


class FixedSmall(Variance):
    def log_variance(self, at: Coefficients, variance_output: Tensor | None = None) -> Tensor:
        return at.log_beta_tilde
