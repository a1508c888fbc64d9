"""AdamW that needs no decay of the learning rate, because it averages the weights itself. Defazio et al. 2024
(arXiv:2405.15682)."""

from typing import ClassVar

from ddpm.base.sections import Fraction
from ddpm.base.tensor import Tensor, TorchOptimizer
from ddpm.training.optimizer import Beta, Decay, Hidden, Optimizer, Weights


class ScheduleFree(Optimizer):
    """Its average x is what is shipped, so it needs ``ema: off`` and ``lr_decay: constant``. The network learns at y, a
    mix of x and of the fast weights z; the first of ``betas`` is the share of x. train.warmup_steps are as usual.

    In float16 the host waits for the device at each step: the library counts its steps on the host.
    """

    averages: ClassVar[bool] = True

    weight_decay: Decay = 0.0
    betas: tuple[Fraction, Beta] = (0.9, 0.999)

    def over(self, parameters: Weights, hidden: Hidden, learning_rate: float) -> TorchOptimizer:
        from schedulefree import AdamWScheduleFree

        optimizer = AdamWScheduleFree(parameters, learning_rate, betas=self.betas, weight_decay=self.weight_decay)
        optimizer.train()
        return optimizer

    def average(self, optimizer: TorchOptimizer, weights: list[Tensor]) -> None:
        """x from y = (1 - beta) z + beta x. The library's own ``eval`` and ``train`` would change y by rounding, so
        that a training would depend on how often someone looks at it."""
        import torch

        (group,) = optimizer.param_groups
        states = [optimizer.state[parameter] for parameter in group["params"][: len(weights)]]
        if all(states):  # before its first gradient, a weight's x, y and z are one
            torch._foreach_lerp_(weights, [state["z"] for state in states], 1 - 1 / group["betas"][0])
