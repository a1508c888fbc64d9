"""sigma_t^2 = beta_tilde_t, right for data that is one point. Ho et al. 2020 (arXiv:2006.11239), section 3.2."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddpm.diffusion.variance import Variance

if TYPE_CHECKING:
    from torch import Tensor

    from ddpm.diffusion.chain import Coefficients


class FixedSmall(Variance):
    def log_variance(self, variance_output: Tensor | None, at: Coefficients) -> Tensor:
        return at.log_beta_tilde
