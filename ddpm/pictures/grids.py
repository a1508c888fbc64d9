"""Grids and films of uint8 (N, C, H, W) images. They show the first three channels as RGB, or the first as gray if
there are fewer."""

import math
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

from ddpm.base.errors import UserError
from ddpm.base.files import atomic_path
from ddpm.base.images import Images

FRAMES_PER_SECOND = 8
BORDER = 128  # grey level of the line between two images
SMALLEST_SIDE = 512  # pixels; smaller grids are enlarged by a whole factor, so that they can be seen
WIDEST = 1000  # pixels, about: rows of many images are enlarged less
LARGEST_SIDE = 16_383  # pixels, of WebP; PNG allows more
STRIP = 12  # images in a row that stands for a set
MOST_ROWS, MOST_COLUMNS = 20, 10  # of a grid with a row for each class
TEXT = 20  # pixels; smaller where a title is wider than its share of the picture
MAX_NAME = 24  # characters
# most of a film is noise, which no codec compresses well, so images and pixels per side are limited
MP4_COLUMNS, MP4_SIDE = 8, 1024
GIF_COLUMNS, GIF_SIDE, GIF_COLOURS = 4, 256, 64
# at most 2 Mbit/s; on one thread, because the number of threads changes the bytes that x264 writes
X264 = ["-crf", "23", "-maxrate", "2M", "-bufsize", "1M", "-threads", "1"]


def save_grid(
    images: ArrayLike, path: Path, columns: int | None = None, titles: Sequence[str] = (), names: Sequence[str] = ()
) -> None:
    """Save a grid, about square unless ``columns`` is given, in the format of ``path``'s suffix.

    titles: text above the grid, which shares its width evenly; names: text on its left, which shares its height.
    Raises UserError if the format has no pictures of that size.
    """
    picture = _add_labels(Image.fromarray(grid(images, columns)), titles, names)
    if path.suffix != ".png" and max(picture.size) > LARGEST_SIDE:
        size = f"{picture.width}x{picture.height} pixels"
        raise UserError(f"{path}: {size} are too many for {path.suffix}; choose .png, or fewer images")
    with atomic_path(path) as temporary:
        picture.save(temporary)


def save_rows(rows: Mapping[str, Images], path: Path, titles: Sequence[str] = ()) -> None:
    """Save a grid with a named row for each of ``rows``, which may differ in length. titles: as ``save_grid`` says."""
    columns = max(map(len, rows.values()))
    filled = [np.pad(row, [(0, columns - len(row)), *[(0, 0)] * 3], constant_values=BORDER) for row in rows.values()]
    save_grid(np.concatenate(filled), path, columns, titles, list(rows))


def save_strip(images: Images, path: Path) -> None:
    """Save the first STRIP of the images in a row."""
    save_grid(images[:STRIP], path, STRIP)


def join(pictures: Mapping[str, Path], path: Path, in_a_row: bool = False) -> None:
    """Save pictures one below the other, their names on the left; or ``in_a_row``, below their names."""
    parts = [Image.open(part).convert("RGB") for part in pictures.values()]
    width, height = (max(sides) for sides in zip(*(part.size for part in parts), strict=True))
    across, down = (len(parts), 1) if in_a_row else (1, len(parts))
    whole = Image.new("RGB", (width * across, height * down), "white")
    for place, part in enumerate(parts):
        whole.paste(part, (place % across * width, place // across * height))
    names = list(pictures)
    _add_labels(whole, names if in_a_row else (), () if in_a_row else names).save(path)


def by_class(images: Images, labels: NDArray[np.int64]) -> dict[int, Images]:
    """The first MOST_COLUMNS images of each class, of the first MOST_ROWS classes."""
    classes = np.unique(labels)[:MOST_ROWS].tolist()
    return {label: images[np.flatnonzero(labels == label)[:MOST_COLUMNS]] for label in classes}


def _add_labels(picture: Image.Image, titles: Sequence[str], names: Sequence[str]) -> Image.Image:
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


def save_films(frames: Sequence[ArrayLike], folder: Path, name: str) -> None:
    """Save ``name``.mp4 and ``name``.gif in ``folder``: a grid for each of ``frames``; the last is shown for a second.

    The GIF shows at most 16 images, in 64 colours a frame. With 20 frames neither file exceeds 1.5 MB.
    """
    import imageio_ffmpeg

    images = [np.asarray(frame) for frame in frames]
    shown = [grid(_first(frame, MP4_COLUMNS, MP4_SIDE)) for frame in images]
    even = [picture[: len(picture) // 2 * 2, : picture.shape[1] // 2 * 2] for picture in shown]
    height, width = even[0].shape[:2]
    with atomic_path(folder / f"{name}.mp4") as temporary:
        options: dict[str, Any] = {"fps": FRAMES_PER_SECOND, "codec": "libx264", "macro_block_size": 2, "quality": None}
        film = imageio_ffmpeg.write_frames(str(temporary), (width, height), output_params=X264, **options)
        film.send(None)
        for picture in even + even[-1:] * FRAMES_PER_SECOND:
            film.send(np.ascontiguousarray(picture))
        film.close()
    first, *rest = [_gif_frame(_first(frame, GIF_COLUMNS, GIF_SIDE)) for frame in images]
    milliseconds = 1000 // FRAMES_PER_SECOND
    durations = [milliseconds] * len(rest) + [milliseconds + 1000]
    with atomic_path(folder / f"{name}.gif") as temporary:
        first.save(temporary, save_all=True, append_images=rest, duration=durations, loop=0)


def _first(images: Images, columns: int, side: int) -> Images:
    """As many images as square ones of that area fill a grid of ``columns``, or of those that fit ``side`` pixels; at
    least one."""
    height, width = images.shape[2:]
    return images[: max(1, min(columns, side // math.isqrt(height * width))) ** 2]


def _gif_frame(images: Images) -> Image.Image:
    """A grid of about GIF_SIDE pixels, with its own palette."""
    smaller = math.ceil(_layout(images)[2] / (GIF_SIDE + 16))  # a grid has borders
    picture = Image.fromarray(grid(images, side=GIF_SIDE)).reduce(smaller)
    return picture.quantize(GIF_COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)


def _layout(images: Images, columns: int | None = None) -> tuple[int, int, int]:
    """Rows and columns of a grid, about square unless ``columns`` is given, and the pixels of its shorter side.

    The side is that of a grid of squares with the images' longer side, so that a strip is not enlarged to a poster.
    """
    count, _, height, width = images.shape
    columns = min(columns or math.ceil(math.sqrt(count * height / width)), count)
    rows, longer = math.ceil(count / columns), max(height, width)
    return rows, columns, min(rows, columns) * (1 + longer) + 1 if count > 1 else longer


def grid(images: ArrayLike, columns: int | None = None, side: int = SMALLEST_SIDE) -> NDArray[np.uint8]:
    """A grid of the images, (H, W, 3), enlarged to about ``side`` pixels; one image alone has no border."""
    # not by torchvision, whose import takes longer than all pictures of a run
    shown: Images = np.asarray(images)
    count, channels, height, width = shown.shape
    rows, columns, shorter = _layout(shown, columns)
    cells = np.full((rows * columns, 1 + height, 1 + width, 3), BORDER, np.uint8)
    cells[:count, 1:, 1:] = shown[:, : 3 if channels >= 3 else 1].transpose(0, 2, 3, 1)  # gray is broadcast to RGB
    picture = cells.reshape(rows, columns, 1 + height, -1).swapaxes(1, 2).reshape(rows * (1 + height), -1, 3)
    picture = np.pad(picture, ((0, 1), (0, 1), (0, 0)), constant_values=BORDER) if count > 1 else picture[1:, 1:]
    scale = max(1, round(min(side / shorter, WIDEST / picture.shape[1])))
    return picture.repeat(scale, 0).repeat(scale, 1)
