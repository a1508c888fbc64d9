"""L_simple: unweighted squared error on the network's target. Ho et al. 2020 (arXiv:2006.11239), equation 14."""

from __future__ import annotations

from ddpm.base.tensor import Tensor
from ddpm.diffusion.loss import Denoised, Loss


class Simple(Loss):
    def __call__(self, denoised: Denoised) -> Tensor:
        return denoised.squared_error()
