"""What a set of images is."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Images: TypeAlias = NDArray[np.uint8]  # (N, C, H, W), in memory or memory-mapped
