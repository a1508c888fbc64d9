"""A function on a GPU, recorded as a CUDA graph: one launch instead of hundreds, for which small networks wait."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ddpm.base.errors import UserError
from ddpm.compute.distributed import Ranks

WARM_UP = 3  # calls, in which libraries choose their kernels and get their memory


class Captured:
    """``function`` of tensors, numbers and None, all of the same shapes at each call; it must not look at values.

    The first calls run it as it is, the next one records it, and from then on the record is repeated. What it returns
    is overwritten by the next call.
    """

    def __init__(self, function: Callable[..., tuple[Tensor, Tensor]], device: torch.device):
        self.function = function
        self.device = device
        self.values: list[Tensor | None] = []
        self.calls = 0

    def __call__(self, *values: Any) -> tuple[Tensor, Tensor]:
        if not self.calls:
            self.values = [placed(value, self.device) for value in values]
            self.stream = torch.cuda.Stream(self.device)
        for own, value in zip(self.values, values, strict=True):
            if own is not None:  # the same place at each call, because the record knows places
                own.copy_(value, non_blocking=True) if isinstance(value, Tensor) else own.fill_(value)
        self.calls += 1
        if self.calls <= WARM_UP:
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                found = self.function(*self.values)
            torch.cuda.current_stream().wait_stream(self.stream)
            return found
        if self.calls == WARM_UP + 1:
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph, stream=self.stream):
                self.found = self.function(*self.values)
        self.graph.replay()
        return self.found


def check_possible(device: torch.device, ranks: Ranks) -> None:
    """Raises UserError unless one process trains on a GPU."""
    if device.type != "cuda" or ranks.size > 1:
        raise UserError(
            f"train.cuda_graph: true needs one process on a GPU, and these are {ranks.size} on {device}; set it to "
            "false"
        )


def placed(value: float | Tensor | None, device: torch.device) -> Tensor | None:
    """A copy on the device; a number becomes a tensor of no dimensions."""
    if value is None or isinstance(value, Tensor):
        return None if value is None else value.clone()
    return torch.full((), value, dtype=torch.int64 if isinstance(value, int) else torch.float32, device=device)
