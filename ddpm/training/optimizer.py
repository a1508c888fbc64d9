"""From gradients to steps."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar

from pydantic import Field

from ddpm.base.tensor import Tensor, TorchOptimizer
from ddpm.base.variant import Variant

Decay = Annotated[float, Field(ge=0)]
Beta = Annotated[float, Field(ge=0, lt=1)]
Betas = tuple[Beta, Beta]
Weights = Sequence[Tensor]
Hidden = Mapping[Tensor, int]
Matrices = Sequence[tuple[int, int, int]]


class Optimizer(Variant, ABC):
    """Contract of an optimizer."""

    averages: ClassVar[bool] = False
    """Whether it averages the weights itself, and its average is shipped. Then it needs ``ema: off``, and a learning
    rate that does not decay."""

    @abstractmethod
    def over(self, parameters: Weights, hidden: Hidden, learning_rate: float) -> TorchOptimizer:
        """A torch optimizer of ``parameters``; each step sets the learning rate of all its groups.

        hidden: those of ``parameters`` that are weights of the network's inner layers, (outputs, ...) each, and of how
        many matrices it is a stack.
        """

    def flops(self, hidden: Matrices) -> int:
        """Operations of a step's matrix products; by default there are none. hidden: of each weight of an inner layer,
        of how many matrices it is a stack, and their rows and columns."""
        return 0

    def average(self, optimizer: TorchOptimizer, weights: list[Tensor]) -> None:
        """Turn ``weights``, copies of the first parameters, into its own average of them, in place; by default nothing
        happens."""
