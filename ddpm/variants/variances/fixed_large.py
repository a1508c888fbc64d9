"""sigma_t^2 = beta_t, right for data that is N(0, I). Ho et al. 2020 (arXiv:2006.11239), section 3.2."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddpm.diffusion.variance import Variance

if TYPE_CHECKING:
    from torch import Tensor

    from ddpm.diffusion.chain import Coefficients


class FixedLarge(Variance):
    """beta_tilde_2 stands in for beta_1 at t = 1, as in the paper's code: the last step's noise would be seen."""

    def log_variance(self, variance_output: Tensor | None, at: Coefficients) -> Tensor:
        import torch

        return torch.where(at.sigma_prev == 0, at.log_beta_tilde, at.log_beta)
