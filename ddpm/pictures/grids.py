"""Grids and films of uint8 (N, C, H, W) images. Of 2 channels, or more than 3, they show what ``visible`` picks."""

import math
from collections.abc import Sequence
from functools import cache
from importlib.metadata import distribution
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn.functional import pad

from ddpm.base.files import atomic_path
from ddpm.pictures.channels import visible

FRAMES_PER_SECOND = 8
BORDER = 128  # grey level of the line between two images
SMALLEST_SIDE = 512  # pixels; smaller grids are enlarged by a whole factor, so that they can be seen
TEXT = 20  # pixels; smaller where a title is wider than its share of the picture
MAX_NAME = 24  # characters
# most of a film is noise, which no codec compresses well, so images and pixels per side are limited
MP4_COLUMNS, MP4_SIDE = 8, 1024
GIF_COLUMNS, GIF_SIDE, GIF_COLOURS = 4, 256, 64
# at most 2 Mbit/s; on one thread, because the number of threads changes the bytes that x264 writes
X264 = ["-crf", "23", "-maxrate", "2M", "-bufsize", "1M", "-threads", "1"]


def save_grid(
    images: Tensor, path: Path, columns: int | None = None, titles: Sequence[str] = (), names: Sequence[str] = ()
) -> None:
    """Save a grid, about square unless ``columns`` is given, in the format of ``path``'s suffix.

    titles: text above the grid, which shares its width evenly; names: text on its left, which shares its height.
    """
    with atomic_path(path) as temporary:
        _labelled(to_pil(grid(images, columns)), titles, names).save(temporary)


def _labelled(picture: Image.Image, titles: Sequence[str], names: Sequence[str]) -> Image.Image:
    titles, names = ([" ".join(text.split())[:MAX_NAME] for text in texts] for texts in (titles, names))
    share = picture.width / max(1, len(titles))
    widest = max(map(_font(TEXT).getlength, titles), default=0)
    title_font, name_font = _font(int(TEXT * min(1, 0.9 * share / max(1, widest)))), _font(TEXT)
    top, left = 3 * TEXT // 2 if titles else 0, int(max(map(name_font.getlength, names), default=-TEXT)) + TEXT
    whole = Image.new("RGB", (left + picture.width, top + picture.height), "white")
    whole.paste(picture, (left, top))
    draw = ImageDraw.Draw(whole)
    for place, title in enumerate(titles):
        draw.text((left + (place + 0.5) * share, top / 2), title, "black", title_font, "mm")
    for place, name in enumerate(names):
        middle = top + (place + 0.5) * picture.height / len(names)
        draw.text((left - TEXT / 2, middle), name, "black", name_font, "rm")
    return whole


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """The font of the plots, without importing them. The basic layout draws the same pixels on every machine."""
    file = distribution("matplotlib").locate_file("matplotlib/mpl-data/fonts/ttf/DejaVuSans.ttf")
    return ImageFont.truetype(str(file), size, layout_engine=ImageFont.Layout.BASIC)


def save_films(frames: Sequence[Tensor], folder: Path, name: str) -> None:
    """Save ``name``.mp4 and ``name``.gif in ``folder``: a grid for each of ``frames``; the last is shown for a second.

    The GIF shows at most 16 images, in 64 colours a frame. With 20 frames neither file exceeds 1.5 MB.
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
    """As many images as square ones of that area fill a grid of ``columns``, or of those that fit ``side`` pixels; at
    least one."""
    height, width = images.shape[2:]
    return images[: max(1, min(columns, side // math.isqrt(height * width))) ** 2]


def _gif_frame(images: Tensor) -> Image.Image:
    """A grid of about GIF_SIDE pixels, with its own palette."""
    _, _, side = _layout(images)
    smaller = math.ceil(side / (GIF_SIDE + 16))  # a grid has borders
    picture = to_pil(grid(images, side=0)).reduce(smaller)
    picture = picture.quantize(GIF_COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    larger = max(1, round(GIF_SIDE / math.ceil(side / smaller)))
    return picture.resize((picture.width * larger, picture.height * larger), Image.Resampling.NEAREST)


def _layout(images: Tensor, columns: int | None = None) -> tuple[int, int, int]:
    """Rows and columns of a grid, about square unless ``columns`` is given, and the pixels of its shorter side.

    The side is that of a grid of squares with the images' longer side, so that a strip is not enlarged to a poster.
    """
    count, _, height, width = images.shape
    columns = min(columns or math.ceil(math.sqrt(count * height / width)), count)
    rows, longer = math.ceil(count / columns), max(height, width)
    return rows, columns, min(rows, columns) * (1 + longer) + 1 if count > 1 else longer


def grid(images: Tensor, columns: int | None = None, side: int = SMALLEST_SIDE) -> Tensor:
    """A grid of the images, (3, H, W) uint8, enlarged to about ``side`` pixels; one image alone has no border."""
    # not by torchvision, whose import takes longer than all pictures of a run
    images = images.cpu()[:, visible(images.shape[1])].expand(-1, 3, -1, -1)
    count, _, height, width = images.shape
    rows, columns, shorter = _layout(images, columns)
    cells = images.new_full((rows * columns, 3, 1 + height, 1 + width), BORDER)
    cells[:count, :, 1:, 1:] = images
    picture = cells.view(rows, columns, *cells.shape[1:]).permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)
    picture = pad(picture, (0, 1, 0, 1), value=BORDER) if count > 1 else images[0]
    scale = max(1, round(side / shorter))
    return picture.repeat_interleave(scale, 1).repeat_interleave(scale, 2)


def to_pil(picture: Tensor) -> Image.Image:
    """(3, H, W) uint8 as a picture."""
    return Image.fromarray(picture.permute(1, 2, 0).numpy())
