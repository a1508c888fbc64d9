"""A row of images, as one picture of a page."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddpm.base.files import atomic_path
from ddpm.pictures.channels import visible

COLUMNS = 12  # images in a strip
WIDTH = 1000  # pixels at least, reached by whole enlargement


def tiles(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The first COLUMNS of uint8 (N, C, H, W) side by side, a pixel apart: (H', W', 4), transparent elsewhere."""
    images = images[:COLUMNS, visible(images.shape[1])]
    count, _, height, width = images.shape
    picture = np.zeros((height, COLUMNS, width + 1, 4), np.uint8)
    picture[:, :count, :width, :3] = images.transpose(2, 0, 3, 1)  # gray is broadcast to RGB
    picture[:, :count, :width, 3] = 255
    flat = picture.reshape(height, -1, 4)[:, :-1]
    scale = max(1, min(-(-WIDTH // flat.shape[1]), WIDTH // height))  # tall images make no tower
    return flat.repeat(scale, 0).repeat(scale, 1)


def png(images: NDArray[np.uint8]) -> bytes:
    """The content of a PNG file of ``tiles``, in 256 colours if that is smaller."""
    picture = Image.fromarray(tiles(images))
    return min(map(_png, (picture, picture.quantize())), key=len)


def write(images: NDArray[np.uint8], path: Path) -> None:
    """Write ``tiles`` as a PNG file. Raises UserError if that fails."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(png(images))


def _png(picture: Image.Image) -> bytes:
    content = io.BytesIO()
    picture.save(content, "PNG", optimize=True)
    return content.getvalue()
