"""sigma_t^2 = beta_t, right for data that is N(0, I). Ho et al. 2020 (arXiv:2006.11239), section 3.2."""

from __future__ import annotations

from ddpm.base.tensor import Tensor
from ddpm.diffusion.coefficients import Coefficients
from ddpm.diffusion.variance import Variance


class FixedLarge(Variance):
    """beta_tilde_2 stands in for beta_1 at t = 1, as in the paper's code: the last step's noise would be seen."""

    def log_variance(self, variance_output: Tensor | None, at: Coefficients) -> Tensor:
        import torch

        return torch.where(at.sigma_prev == 0, at.log_beta_tilde, at.log_beta)
