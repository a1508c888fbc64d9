"""What turns gradients into steps: the contract of an optimizer, and its state as tensors."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

from pydantic import Field

from ddpm.base.tensor import Tensor, TorchOptimizer
from ddpm.base.variant import Variant

Decay = Annotated[float, Field(ge=0)]
Beta = Annotated[float, Field(ge=0, lt=1)]
Betas = tuple[Beta, Beta]
Weights = Sequence[Tensor]


class Optimizer(Variant, ABC):
    """Contract of an optimizer."""

    averages: ClassVar[bool] = False
    """Whether it averages the weights itself, and its average is shipped. Then it needs ``ema: off``, and a learning
    rate that does not decay."""

    @abstractmethod
    def over(self, parameters: Weights, hidden: Weights, learning_rate: float) -> TorchOptimizer:
        """A torch optimizer of ``parameters``; each step sets the learning rate of all its groups.

        hidden: those of ``parameters`` that are weights of the network's inner layers, (outputs, ...) each.
        """

    def average(self, optimizer: TorchOptimizer, weights: list[Tensor]) -> None:
        """Turn ``weights``, copies of the first parameters, into its own average of them, in place; by default nothing
        happens."""


def state(optimizer: TorchOptimizer) -> dict[str, Any]:
    """All that its next step depends on: tensors by the parameter's place, and its groups."""
    whole = optimizer.state_dict()
    tensors = {f"{place}.{name}": value for place, values in whole["state"].items() for name, value in values.items()}
    return {**tensors, "groups": whole["param_groups"]}


def restore(optimizer: TorchOptimizer, state: dict[str, Any]) -> None:
    """Load what ``state`` returned."""
    import torch

    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    states: dict[int, dict[str, Tensor]] = {}
    for key, value in state.items():
        place, _, name = key.partition(".")
        if name:
            weight = weights[int(place)]
            # fused optimizers pair moments with weights by their place in memory
            alike = torch.empty_like(weight, dtype=value.dtype).copy_(value) if value.shape == weight.shape else value
            states.setdefault(int(place), {})[name] = alike
    optimizer.load_state_dict({"state": states, "param_groups": state["groups"]})
