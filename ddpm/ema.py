"""The exponential moving average of the weights: what is sampled and shipped."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ddpm.training.ema import EMAProfile


class EMA:
    """Averages of a network's parameters in float32, by ``profile``; one fused operation a step."""

    def __init__(self, network: nn.Module, profile: EMAProfile):
        self.profile = profile
        self.parameters = [parameter.detach() for parameter in network.parameters()]
        self.averages = {name: p.detach().clone().float() for name, p in network.named_parameters()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after optimizer step ``step`` (1, 2, ...)."""
        averages: list[Tensor] = list(self.averages.values())
        torch._foreach_lerp_(averages, self.parameters, 1 - self.profile.decay(step))
