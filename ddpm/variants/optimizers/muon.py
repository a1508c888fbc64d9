"""Muon for the weights of inner layers: momentum made orthogonal; AdamW for all else. Jordan et al. 2024,
https://kellerjordan.github.io/posts/muon."""

from ddpm.base.sections import BelowOne
from ddpm.base.tensor import TorchOptimizer
from ddpm.training.optimizer import Betas, Decay, Hidden, Matrices, Optimizer, Weights


class Muon(Optimizer):
    """Kernels of convolutions count as matrices, (outputs, inputs x height x width). Layers that touch the image,
    embeddings, biases and norms are left to AdamW, which has ``betas``. Weight decay is for both.

    A matrix's learning rate is 0.2 sqrt(its longer side) times train.learning_rate (Liu et al. 2025, arXiv:2502.16982):
    so its steps are as large as AdamW's, and one learning rate suits both.

    split: queries, keys, values and the parts of a DiT's modulation are a matrix each, not one together.
    """

    momentum: BelowOne = 0.95
    weight_decay: Decay = 0.01
    betas: Betas = (0.9, 0.999)
    split: bool = False

    def over(self, parameters: Weights, hidden: Hidden, learning_rate: float) -> TorchOptimizer:
        from ddpm.training.orthogonal import OrthogonalAdamW

        hidden = hidden if self.split else dict.fromkeys(hidden, 1)
        return OrthogonalAdamW(parameters, hidden, learning_rate, self.momentum, self.betas, self.weight_decay)

    def flops(self, hidden: Matrices) -> int:
        from ddpm.training import orthogonal

        shapes = hidden if self.split else [(1, parts * rows, columns) for parts, rows, columns in hidden]
        return sum(orthogonal.flops(*shape) for shape in shapes)
