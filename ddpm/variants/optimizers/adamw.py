"""Adam with decoupled weight decay. Loshchilov & Hutter 2017 (arXiv:1711.05101)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ddpm.base.tensor import Tensor
from ddpm.training.optimizer import Betas, Decay, Optimizer

if TYPE_CHECKING:
    import torch


class AdamW(Optimizer):
    weight_decay: Decay = 0.01
    betas: Betas = (0.9, 0.999)

    def over(
        self, parameters: Sequence[Tensor], hidden: Sequence[Tensor], learning_rate: float
    ) -> torch.optim.Optimizer:
        import torch

        return torch.optim.AdamW(
            parameters,
            learning_rate,
            betas=self.betas,
            weight_decay=self.weight_decay,
            fused=True,
            capturable=parameters[0].is_cuda,
        )
