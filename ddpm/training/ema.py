"""The exponential moving average of the weights: what is sampled and shipped."""

from abc import ABC, abstractmethod
from collections.abc import Callable

from ddpm.base.tensor import Module, Tensor
from ddpm.base.variant import Variant


class EMAProfile(Variant, ABC):
    """Contract of a profile: how fast the average forgets."""

    @abstractmethod
    def decay(self, step: int) -> float:
        """The share of the average that survives update ``step`` (1, 2, ...), in [0, 1); 0 copies the weights."""


class EMA:
    """Averages of a network's parameters in float32; one fused operation a step. decay: as a profile's."""

    def __init__(self, network: Module, decay: Callable[[int], float]):
        self.decay = decay
        self.parameters = [parameter.detach() for parameter in network.parameters()]
        self.averages = {name: p.detach().clone().float() for name, p in network.named_parameters()}

    def update(self, step: int) -> None:
        """Add the weights after optimizer step ``step`` (1, 2, ...)."""
        import torch

        averages: list[Tensor] = list(self.averages.values())
        torch._foreach_lerp_(averages, self.parameters, 1 - self.decay(step))
