"""The building blocks of a page: chapters of notes, tables, strips of images and figures; and numbers in words."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddpm.base.errors import UserError
from ddpm.pictures import plots
from ddpm.pictures.channels import visible
from ddpm.pictures.plots import Panel

COLUMNS = 12  # images in a strip
STRIP_WIDTH = 1000  # pixels at least, reached by whole enlargement


@dataclass(frozen=True)
class Note:
    """A sentence; ``missing`` if something is missing and the sentence says how to get it."""

    text: str
    missing: bool = False


@dataclass(frozen=True)
class Table:
    """Cells of text by rows; the first cell of each row is its head.

    text_columns: the columns that hold words; folded: hidden under the caption until a reader opens it.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    text_columns: Sequence[int] = (0,)
    folded: bool = False


@dataclass(frozen=True)
class Strip:
    """A named row of images as a data URI."""

    name: str
    picture: str


@dataclass(frozen=True)
class Figure:
    """A picture as a data URI. Consecutive ones stand next to each other, a ``wide`` one by itself."""

    caption: str
    picture: str
    wide: bool = False


Part = Note | Table | Strip | Figure


@dataclass(frozen=True)
class Chapter:
    title: str
    parts: Sequence[Part]


def attempted(build: Callable[..., Iterable[Part]], *arguments: Any) -> list[Part]:
    """The parts that ``build`` returns, or the line of the UserError that it raises."""
    try:
        return list(build(*arguments))
    except UserError as error:
        return [Note(str(error), missing=True)]


def chapter(title: str, *builders: Callable[[], Iterable[Part]]) -> Chapter:
    return Chapter(title, [part for build in builders for part in attempted(build)])


def strip(name: str, images: NDArray[np.uint8]) -> Strip:
    """A strip of the first of uint8 (N, C, H, W) images."""
    picture = io.BytesIO()
    Image.fromarray(tiles(images)).save(picture, "PNG", optimize=True)
    return Strip(name, data_uri(picture.getvalue()))


def tiles(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The first COLUMNS of uint8 (N, C, H, W) side by side, a pixel apart: (H', W', 4), transparent elsewhere."""
    images = images[:COLUMNS, visible(images.shape[1])]
    count, _, height, width = images.shape
    picture = np.zeros((height, COLUMNS, width + 1, 4), np.uint8)
    picture[:, :count, :width, :3] = images.transpose(2, 0, 3, 1)  # gray is broadcast to RGB
    picture[:, :count, :width, 3] = 255
    flat = picture.reshape(height, -1, 4)[:, :-1]
    scale = max(1, min(-(-STRIP_WIDTH // flat.shape[1]), STRIP_WIDTH // height))  # tall images make no tower
    return flat.repeat(scale, 0).repeat(scale, 1)


def data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def figure(draw: Callable[[Path], None] | Panel, caption: str, wide: bool = False) -> Figure:
    """The figure that ``draw`` writes to a given path, or the curves of a panel."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "picture.png"
        if isinstance(draw, Panel):
            plots.lines(path, [draw])
        else:
            draw(path)
        return Figure(caption, data_uri(path.read_bytes()), wide)


def number(value: float) -> str:
    """The value with four significant digits."""
    return f"{value:#.4g}"


def plain(value: Any) -> str:
    """A value from params.yaml or from a record, as text."""
    if isinstance(value, list | tuple):
        return ", ".join(map(plain, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)
