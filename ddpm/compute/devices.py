"""Devices, precisions and threads: the one place that queries what the machine can do."""

import ctypes
import os
import platform
import re
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Literal

from ddpm.base.errors import UserError, plural
from ddpm.base.tensor import Device, DType

DEVICE = r"(auto|cpu|cuda(:\d+)?)"  # allowed values of ``device`` in params.yaml
DRIVER = "libcuda.so.1"  # the library that comes with NVIDIA's driver, in WSL too
COMPILED = Path(".ddpm/compiled")  # under the repository's root
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # of malloc.h


def resolve(device: str) -> Device:
    """The torch device. ``auto`` is a GPU if there is one, else the CPU; ``auto`` and ``cuda`` mean this rank's GPU.

    Every stage calls this before it computes, so it also sets what the same bytes need: deterministic kernels, and
    convolutions in float32 that cuDNN does not round to TF32, as it does by default. It sets where torch.compile keeps
    its code (a folder for each version of torch), and one CPU thread unless OMP_NUM_THREADS is set: threads wait for
    each other after every operation, so one busy neighbour makes two of them ten times slower. Raises UserError when
    the device does not exist.
    """
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read once, at the process's first matrix product
    folder = Path(os.environ.get("DVC_ROOT", ".")).absolute() / COMPILED / torch.__version__
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
    if not re.fullmatch(DEVICE, device):
        raise UserError(f"device: {device!r}; allowed: auto, cpu, cuda or cuda:N")
    torch.backends.cudnn.allow_tf32 = False
    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    # torch.device wraps around above 127
    index = int(device.partition(":")[2] or os.environ.get("LOCAL_RANK", "0"))
    if index >= (seen := torch.cuda.device_count()):
        build = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "for CPUs"
        raise UserError(
            f"device: {device!r}: torch, a build {build}, sees {plural(seen, 'GPU')}, and none has the number {index}; "
            "allowed: auto, cpu, a smaller launch.processes"
        )
    resolved = torch.device("cuda", index)
    make_deterministic(resolved)
    return resolved


def make_deterministic(device: Device, on: bool = True) -> None:
    """Make torch give the same bytes each time on the same GPU, or not, which saves some time; CPU kernels always do.

    The device must come from ``resolve``: torch refuses matrix products if cuBLAS is not set up for this.
    """
    import torch

    if device.type == "cuda":
        torch.use_deterministic_algorithms(on)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def gpus() -> tuple[str, ...]:
    """This machine's GPUs as CUDA_VISIBLE_DEVICES names them. Asks the driver, not /proc, which WSL lacks, and leaves
    CUDA alone: a process that has started it can no longer fork."""
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return tuple(filter(None, visible.split(",")))
    try:
        ctypes.CDLL(DRIVER)
    except OSError:
        return ()  # importing torch, to be told the same, takes two seconds
    import torch

    return tuple(map(str, range(torch.cuda.device_count())))


def has_bfloat16(device: Device) -> bool:
    """Whether the hardware computes in bfloat16: GPUs since Ampere, and CPUs with AVX512-BF16 or AMX."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def precision_name(dtype: DType) -> str:
    """As params.yaml spells it: float32, bfloat16 or float16."""
    return str(dtype).removeprefix("torch.")


def autocast(dtype: DType, device: Device) -> AbstractContextManager[object]:
    """A context of mixed precision in ``dtype``; float32 needs none."""
    import torch

    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)


def compiles(device: Device) -> bool:
    """Whether torch.compile pays off: on a GPU that Triton supports. By rule and not by a measurement, because compiled
    code may round otherwise, and the same run must give the same bytes."""
    from torch.utils._triton import has_triton

    return device.type == "cuda" and has_triton()


def is_on(switch: bool | Literal["auto"], pays: bool) -> bool:
    """Whether a switch of params.yaml is on here. pays: the meaning of ``auto``."""
    return pays if switch == "auto" else switch


def reuse_memory() -> None:
    """Make glibc keep the memory that this process frees, because the next step needs as much again.

    By default every large tensor gets a new mapping, and the kernel zeroes its pages: 84,000 page faults in a step of
    the article preset, 14% of its time. With another C library this does nothing.
    """
    limits = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: -1, M_TOP_PAD: 2**27}
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        for name, value in limits.items():
            library.mallopt(name, value)


def free_memory(device: Device) -> int:
    """Bytes that are free on the GPU, or in the CPU's memory."""
    import psutil
    import torch

    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return int(psutil.virtual_memory().available)


def peak_memory(device: Device) -> int:
    """The most bytes that this process has held so far: in tensors on the GPU, or of the CPU's memory in all."""
    import resource

    import torch

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def processor(device: Device, cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The model of the GPU, or of the CPU with its family and model numbers: a hypervisor may hide the exact name."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in reversed(lines))}
    if "model name" not in facts:  # macOS, and Linux on ARM
        return platform.processor() or platform.machine()
    numbers = [f"{key} {facts[key]}" for key in ("cpu family", "model") if key in facts]
    return ", ".join([facts["model name"], *numbers])
