"""Two optimizers as one: one of matrices, one of all else."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

Make = Callable[[list[Tensor]], Optimizer]


class Joined(Optimizer):
    """``of_matrices`` makes the optimizer of ``hidden``, ``of_others`` that of the rest of ``parameters``.

    The first sees each weight as a matrix, (outputs, all else): the kernel of a convolution is one with inputs x height
    x width columns, as in Jordan et al. 2024, https://kellerjordan.github.io/posts/muon. The matrices are views, so a
    step changes the weights themselves.
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        hidden: Sequence[Tensor],
        learning_rate: float,
        of_matrices: Make,
        of_others: Make,
    ):
        known = {id(weight) for weight in hidden}
        self.hidden: list[Tensor] = list(hidden)
        others: list[Tensor] = [parameter for parameter in parameters if id(parameter) not in known]
        super().__init__([{"params": self.hidden}, {"params": others}], {"lr": learning_rate})
        self.matrices = [_matrix(weight.detach(), weight) for weight in self.hidden]
        self.parts = (of_matrices(self.matrices), of_others(others))

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for matrix, weight in zip(self.matrices, self.hidden, strict=True):
            matrix.grad = None if weight.grad is None else _matrix(weight.grad, weight)
        for part, group in zip(self.parts, self.param_groups, strict=True):
            part.param_groups[0]["lr"] = group["lr"]
            part.step()
            part.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        """The parts' own, those of matrices first; each part has one group."""
        of_matrices, of_others = (part.state_dict() for part in self.parts)
        moved = {len(self.matrices) + place: values for place, values in of_others["state"].items()}
        groups = [*of_matrices["param_groups"], *of_others["param_groups"]]
        return {"state": of_matrices["state"] | moved, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        first = 0
        for part, group in zip(self.parts, state_dict["param_groups"], strict=True):
            end = first + len(group["params"])
            states = {place - first: values for place, values in state_dict["state"].items() if first <= place < end}
            part.load_state_dict({"state": states, "param_groups": [group]})
            first = end


def _matrix(tensor: Tensor, weight: Tensor) -> Tensor:
    """(outputs, all else), a view of ``tensor`` if it is laid out in memory as ``weight`` is, of the same shape."""
    if not weight.is_contiguous():  # channels_last
        tensor = tensor.movedim(1, -1)
    return tensor.reshape(len(tensor), -1)
