"""Adam with decoupled weight decay. Loshchilov & Hutter 2017 (arXiv:1711.05101)."""

from ddpm.base.tensor import TorchOptimizer
from ddpm.training.optimizer import Betas, Decay, Hidden, Optimizer, Weights


class AdamW(Optimizer):
    weight_decay: Decay = 0.01
    betas: Betas = (0.9, 0.999)

    def over(self, parameters: Weights, hidden: Hidden, learning_rate: float) -> TorchOptimizer:
        import torch

        return torch.optim.AdamW(
            parameters, learning_rate, betas=self.betas, weight_decay=self.weight_decay, fused=True
        )
