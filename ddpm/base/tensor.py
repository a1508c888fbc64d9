"""``Tensor`` for annotations in files that are imported to read params.yaml: importing torch takes a second."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
else:
    Tensor = Any

__all__ = ["Tensor"]
