"""Adam without weight decay: the optimizer of Ho et al. 2020 (arXiv:2006.11239), appendix B. Kingma & Ba 2014
(arXiv:1412.6980)."""

from ddpm.base.tensor import TorchOptimizer
from ddpm.training.optimizer import Betas, Hidden, Optimizer, Weights


class Adam(Optimizer):
    betas: Betas = (0.9, 0.999)

    def over(self, parameters: Weights, hidden: Hidden, learning_rate: float) -> TorchOptimizer:
        import torch

        return torch.optim.Adam(parameters, learning_rate, betas=self.betas, fused=True)
