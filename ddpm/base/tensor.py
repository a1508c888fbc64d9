"""Torch's types for annotations in files that are imported to read params.yaml: importing torch takes a second."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from torch import device as Device
    from torch import dtype as DType
    from torch.nn import Module
    from torch.optim import Optimizer as TorchOptimizer
else:
    DType = Device = Module = Tensor = TorchOptimizer = Any

__all__ = ["DType", "Device", "Module", "Tensor", "TorchOptimizer"]
