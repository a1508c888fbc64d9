"""The fake device, in a process that was started with the shim preloaded, and what is watched on it."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from ddpm.training import captured, trainer

ROOT = Path(__file__).parents[2]
CUDA = torch.device("cuda", 0)
GIGABYTE = 2**30
# what torch asks the driver about
ANSWERS: dict[str, object] = {
    "is_available": True,
    "device_count": 1,
    "mem_get_info": (70 * GIGABYTE, 80 * GIGABYTE),
    "get_device_capability": (9, 0),
    "is_bf16_supported": True,
    "current_device": 0,
    "_lazy_init": None,
}
INDEXING = (torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default, torch.ops.aten.index_put.default)
FUSED = {
    torch.ops.aten._fused_adam_.tensor_lr: torch.ops.aten._fused_adam_.default,
    torch.ops.aten._fused_adamw_.tensor_lr: torch.ops.aten._fused_adamw_.default,
}
VALUES: dict[object, Callable[[Tensor], object]] = {
    torch.ops.aten.equal.default: lambda _: False,
    torch.ops.aten._local_scalar_dense.default: lambda x: 1.0 if x.is_floating_point() else 1,
    torch.ops.aten.nonzero.default: lambda x: torch.zeros(x.numel(), x.dim(), dtype=torch.int64, device=x.device),
}


class Watched(TorchDispatchMode):
    """Counts operations, and notes by file and line what makes a host wait for the device, or the other way round.

    looks: whether the host may look at values. All numbers are then 1, no two tensors equal, and no entry is 0.
    """

    def __init__(self, looks: bool) -> None:
        super().__init__()
        self.looks = looks
        self.operations = 0
        self.notes: Counter[str] = Counter()

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: tuple[Any, ...] = (), options: dict[str, Any] | None = None
    ) -> Any:
        options = options or {}
        self.operations += 1
        if function in FUSED:  # fake tensors lack the one whose learning rate is on the device
            assert options["lr"].is_cuda
            function, options = FUSED[function], options | {"lr": 0.0}
        if self.looks and function in VALUES:
            if arguments[0].is_cuda:
                self._note("the host looks at values")
            return VALUES[function](arguments[0])
        found = function(*arguments, **options)
        given = [each for each in (*arguments, *options.values()) if isinstance(each, Tensor)]
        if function in INDEXING:
            if given[0].is_cuda and any(each is not None and not each.is_cuda for each in arguments[1]):
                self._note("an index on the host")
        elif function is torch.ops.aten._to_copy.default:
            self._copy(given[0], found, bool(options.get("non_blocking")))
        elif function is torch.ops.aten.copy_.default:
            self._copy(given[1], given[0], bool(options.get("non_blocking") or True in arguments[2:]))
        elif any(isinstance(each, torch.Generator) and each.device.type == "cpu" for each in options.values()) and any(
            made.device.type == "cuda" for made in (found,) if isinstance(made, Tensor)
        ):
            self._note("a CPU generator for a CUDA tensor")
        return found

    def _copy(self, source: Tensor, target: Tensor, non_blocking: bool) -> None:
        ways = source.device.type, target.device.type
        if ways == ("cuda", "cpu"):
            self._note("the host waits for the device")
        elif ways == ("cpu", "cuda") and source.dim() and not non_blocking:
            self._note("the device waits for the host")
        elif ways == ("cpu", "cuda") and source.dim() and not hasattr(source, "pinned"):
            self._note("a copy that cannot go on alone, because its memory is not pinned")

    def _note(self, what: str) -> None:
        frames = [frame for frame in traceback.extract_stack() if f"{ROOT}/ddpm/" in frame.filename]
        where = f"{Path(frames[-1].filename).relative_to(ROOT)}:{frames[-1].name}" if frames else "elsewhere"
        self.notes[f"{what}, in {where}"] += 1


@contextmanager
def fake_cuda(looks: bool = False) -> Iterator[Watched]:
    """Every tensor that is made within is fake, and may be on CUDA. looks: as ``Watched`` has it."""
    with ExitStack() as stack:
        for name, answer in ANSWERS.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, lambda *_, answer=answer, **__: answer))
        stack.enter_context(mock.patch.object(Tensor, "pin_memory", _pinned))
        stack.enter_context(mock.patch.object(Tensor, "numpy", _zeros))
        # there is nothing to record: a step is run with the tensors that a record would have
        stack.enter_context(mock.patch.object(trainer, "Captured", _placed))
        stack.enter_context(mock.patch.object(nn.Module, "_apply", _by_assignment))
        for name in ("__enter__", "__exit__"):  # it would hide copies within operations that are made of others
            stack.enter_context(mock.patch.object(torch.inference_mode, name, return_value=None))
        # it looks at values, on the CPU, before there is anything on the device
        stack.enter_context(mock.patch.object(nn.init, "trunc_normal_", lambda tensor, *_, **__: tensor))
        stack.enter_context(mock.patch.object(torch, "tensor", _by_a_copy(torch.tensor)))
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        yield stack.enter_context(Watched(looks))


def _pinned(self: Tensor, *_: Any) -> Tensor:
    self.pinned = True  # type: ignore[attr-defined]
    return self


def _zeros(self: Tensor) -> np.ndarray:
    if self.is_cuda:
        raise TypeError("a tensor on CUDA is no array")
    return np.zeros(tuple(self.shape), str(self.dtype).removeprefix("torch."))


def _placed(function: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    return lambda *values: function(*(captured.placed(value, device) for value in values))


def _by_a_copy(tensor: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """torch.tensor, whose copy to a device no mode sees, and which makes a real tensor of no values."""

    def made(data: Any, *, device: torch.device | None = None, **options: Any) -> Tensor:
        values = tensor(data, **options)
        # or else a copy of a single number would be made for real
        values.constant = None  # type: ignore[attr-defined]
        return values.to(device) if values.numel() else torch.empty(values.shape, dtype=values.dtype, device=device)

    return made


def _by_assignment(self: nn.Module, convert: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """Instead of swapping tensors in place, which fake ones, weakly referenced, do not allow."""
    for child in self.children() if recurse else ():
        child._apply(convert)
    for name, parameter in self._parameters.items():
        if parameter is not None:
            with torch.no_grad():
                self._parameters[name] = nn.Parameter(convert(parameter), parameter.requires_grad)
    for name, buffer in self._buffers.items():
        if buffer is not None:
            self._buffers[name] = convert(buffer)
    return self
