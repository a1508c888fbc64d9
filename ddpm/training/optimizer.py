"""What turns gradients into steps: the contract of an optimizer, and its state as tensors."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, ClassVar

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


def state(optimizer: TorchOptimizer) -> dict[str, Tensor]:
    """All that its next step depends on: tensors by the parameter's place, and the numbers of its groups."""
    import torch

    whole = optimizer.state_dict()
    tensors = {f"{place}.{name}": value for place, values in whole["state"].items() for name, value in values.items()}
    for place, group in enumerate(whole["param_groups"]):
        for name, value in _numbers(group).items():
            tensors[f"group.{place}.{name}"] = torch.tensor(value, dtype=torch.float64)
    return tensors


def restore(optimizer: TorchOptimizer, tensors: dict[str, Tensor]) -> None:
    """Load the tensors that ``state`` returned."""
    import torch

    whole = optimizer.state_dict()
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    states: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        place, _, name = key.partition(".")
        if place == "group":
            continue
        weight = weights[int(place)]
        states.setdefault(int(place), {})[name] = value
        if value.shape == weight.shape:  # fused optimizers pair moments with weights by their place in memory
            states[int(place)][name] = torch.empty_like(weight, dtype=value.dtype).copy_(value)
    groups = [
        {**group, **{name: type(was)(tensors[f"group.{place}.{name}"]) for name, was in _numbers(group).items()}}
        for place, group in enumerate(whole["param_groups"])
    ]
    optimizer.load_state_dict({"state": states, "param_groups": groups})


def _numbers(group: dict[str, object]) -> dict[str, int | float]:
    return {
        name: value
        for name, value in group.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and name != "lr"  # each step sets it
    }
