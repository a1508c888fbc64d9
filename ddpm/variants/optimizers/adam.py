"""Adam without weight decay: the optimizer of Ho et al. 2020 (arXiv:2006.11239), appendix B. Kingma & Ba 2014
(arXiv:1412.6980)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ddpm.base.tensor import Tensor
from ddpm.training.optimizer import Betas, Optimizer

if TYPE_CHECKING:
    import torch


class Adam(Optimizer):
    betas: Betas = (0.9, 0.999)

    def over(
        self, parameters: Sequence[Tensor], hidden: Sequence[Tensor], learning_rate: float
    ) -> torch.optim.Optimizer:
        import torch

        capturable = parameters[0].is_cuda
        return torch.optim.Adam(parameters, learning_rate, betas=self.betas, fused=True, capturable=capturable)
