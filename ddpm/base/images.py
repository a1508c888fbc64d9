"""What a set of images is, and whether two are the same."""

import hashlib
from collections.abc import Iterable
from itertools import chain
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Images: TypeAlias = NDArray[np.uint8]  # (N, C, H, W), in memory or memory-mapped


def digest(sets: Iterable[Images]) -> str:
    """The sha256 of the images' bytes, one set after the other."""
    whole = hashlib.sha256()
    for image in chain.from_iterable(sets):
        whole.update(image.tobytes())
    return whole.hexdigest()


def distinct(images: Images) -> int:
    """How many different images there are."""
    return len({hashlib.sha256(image.tobytes()).digest() for image in images})
