"""``Tensor`` for the annotations of files that reading params.yaml imports: torch itself takes a second."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
else:
    Tensor = Any

__all__ = ["Tensor"]
