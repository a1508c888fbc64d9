"""Pictures and films of samples, uint8 (N, C, H, W)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import to_pil_image
from torchvision.utils import make_grid

from ddpm.base.files import atomic_path

FRAMES_PER_SECOND = 8
SMALLEST_SIDE = 512  # small images are enlarged by whole pixels, so that a person sees them
# Most of a film is noise, which no codec makes small: frames of at most so many images and pixels a side, and
MP4_COLUMNS, MP4_SIDE = 8, 1024
GIF_COLUMNS, GIF_SIDE, GIF_COLOURS = 4, 256, 64
# at most 2 Mbit/s; on one thread, since x264 writes other bytes on another number of them
X264 = ["-crf", "23", "-maxrate", "2M", "-bufsize", "1M", "-threads", "1"]


def save_grid(images: Tensor, path: Path, columns: int | None = None) -> None:
    """A square grid, or ``columns`` wide, as the suffix of ``path`` says."""
    with atomic_path(path) as temporary:
        to_pil_image(grid(images, columns)).save(temporary)


def save_films(frames: Sequence[Tensor], folder: Path, name: str) -> None:
    """``name``.mp4 and ``name``.gif in ``folder``: a grid for each element of ``frames``; the last stays a second.

    The GIF shows 16 images at most, in 64 colours a frame. Of 20 frames, neither takes over 1.5 MB.
    """
    shown = [grid(_first(images, MP4_COLUMNS, MP4_SIDE)).permute(1, 2, 0).numpy() for images in frames]
    even = [picture[: len(picture) // 2 * 2, : picture.shape[1] // 2 * 2] for picture in shown]
    with atomic_path(folder / f"{name}.mp4") as temporary:
        imageio.imwrite(
            temporary,
            np.stack(even + even[-1:] * FRAMES_PER_SECOND),
            fps=FRAMES_PER_SECOND,
            codec="libx264",
            macro_block_size=2,
            quality=None,
            ffmpeg_params=X264,
        )
    first, *rest = [_gif_frame(_first(images, GIF_COLUMNS, GIF_SIDE)) for images in frames]
    milliseconds = 1000 // FRAMES_PER_SECOND
    durations = [milliseconds] * len(rest) + [milliseconds + 1000]
    with atomic_path(folder / f"{name}.gif") as temporary:
        first.save(temporary, save_all=True, append_images=rest, duration=durations, loop=0)


def _first(images: Tensor, columns: int, side: int) -> Tensor:
    """As many as fill a square grid of ``columns``, or of what ``side`` pixels hold, at least one."""
    return images[: max(1, min(columns, side // images.shape[-1])) ** 2]


def _gif_frame(images: Tensor) -> Image.Image:
    """A grid of about GIF_SIDE pixels, in a palette of its own."""
    picture = to_pil_image(grid(images, side=0))
    picture = picture.reduce(math.ceil(min(picture.size) / (GIF_SIDE + 16)))  # a grid has borders
    picture = picture.quantize(GIF_COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    larger = max(1, round(GIF_SIDE / min(picture.size)))
    return picture.resize((picture.width * larger, picture.height * larger), Image.Resampling.NEAREST)


def grid(images: Tensor, columns: int | None = None, side: int = SMALLEST_SIDE) -> Tensor:
    """(3, H, W) uint8, enlarged to about ``side``."""
    columns = columns or math.ceil(math.sqrt(len(images)))
    picture = make_grid(images.cpu(), nrow=columns, padding=1, pad_value=128)
    scale = max(1, round(side / min(picture.shape[1:])))
    return picture.repeat_interleave(scale, 1).repeat_interleave(scale, 2).to(torch.uint8)
