"""Pictures and films of samples, uint8 (N, C, H, W)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.functional import to_pil_image
from torchvision.utils import make_grid

from ddpm.files import atomic_path

FRAMES_PER_SECOND = 15
SMALLEST_SIDE = 512  # small images are enlarged by whole pixels, so that a person sees them


def save_grid(images: Tensor, path: Path, columns: int | None = None) -> None:
    """A square grid, or ``columns`` wide, as the suffix of ``path`` says."""
    with atomic_path(path) as temporary:
        to_pil_image(grid(images, columns)).save(temporary)


def save_films(frames: Sequence[Tensor], folder: Path, name: str) -> None:
    """``name``.mp4 and ``name``.gif in ``folder``: a grid for each element of ``frames``; the last stays a second."""
    pictures = [grid(images).permute(1, 2, 0).numpy() for images in frames]
    pictures += [pictures[-1]] * FRAMES_PER_SECOND
    even = [picture[: len(picture) // 2 * 2, : picture.shape[1] // 2 * 2] for picture in pictures]
    with atomic_path(folder / f"{name}.mp4") as temporary:
        imageio.imwrite(temporary, np.stack(even), fps=FRAMES_PER_SECOND, codec="libx264", macro_block_size=2)
    with atomic_path(folder / f"{name}.gif") as temporary:
        # in memory first: on a full disk the writer prints a traceback of its own
        picture = imageio.imwrite(
            "<bytes>", np.stack(pictures), extension=".gif", duration=1000 / FRAMES_PER_SECOND, loop=0
        )
        temporary.write_bytes(picture)


def grid(images: Tensor, columns: int | None = None) -> Tensor:
    """(3, H, W) uint8."""
    columns = columns or math.ceil(math.sqrt(len(images)))
    picture = make_grid(images.cpu(), nrow=columns, padding=1, pad_value=128)
    scale = max(1, round(SMALLEST_SIDE / min(picture.shape[1:])))
    return picture.repeat_interleave(scale, 1).repeat_interleave(scale, 2).to(torch.uint8)
