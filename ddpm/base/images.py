"""What a set of images is to those who read it: an array, or as many files as it takes."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Images(Protocol):
    """uint8 (N, C, H, W). A slice, or an array of rows, gives those images as an array; ``np.array`` gives them all."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def nbytes(self) -> int: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> NDArray[np.uint8]: ...

    def __array__(self) -> NDArray[np.uint8]: ...
