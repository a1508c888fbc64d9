"""Devices, precisions and threads: the one place that asks the machine what it can do."""

from __future__ import annotations

import os
import re
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from ddpm.config import DEVICE
from ddpm.errors import UserError

if TYPE_CHECKING:
    import torch


def resolve(device: str) -> torch.device:
    """``auto`` takes a GPU when there is one. Raises UserError when the asked device is missing."""
    import torch

    if not re.fullmatch(DEVICE, device):
        raise UserError(f"device: {device!r} is not allowed: auto, cpu, cuda or cuda:N")
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.startswith("cuda"):
        index = torch.device(device).index or 0
        if index >= torch.cuda.device_count():
            build = torch.version.cuda or "a CPU build of torch"
            raise UserError(
                f"device: {device!r} is not there ({torch.cuda.device_count()} GPUs seen, {build}); "
                "set device: auto or cpu, or install a CUDA build of torch"
            )
    return torch.device(device)


def precision(choice: str, device: torch.device) -> torch.dtype:
    """``auto`` is bfloat16 where the hardware computes in it (GPUs since Ampere, CPUs with AVX512-BF16 or AMX)."""
    import torch

    if choice != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[choice]
    if device.type == "cuda":
        fast = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if fast else torch.float32


def autocast(dtype: torch.dtype, device: torch.device) -> AbstractContextManager[object]:
    """Mixed precision for ``dtype``; float32 needs none."""
    import torch

    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)


def make_deterministic(device: torch.device) -> None:
    """Ask torch for the same bytes each time on the same GPU, at some speed; CPU kernels are so already."""
    import torch

    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def describe(device: torch.device) -> str:
    """The device's name for a person, e.g. ``cpu (2 threads)``."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu ({torch.get_num_threads()} threads)"
