"""What a page is made of: chapters of notes, tables, strips of images and figures; and numbers in words."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddpm.base.errors import UserError
from ddpm.pictures import plots
from ddpm.pictures.plots import Panel

COLUMNS = 12  # images of a strip
STRIP_WIDTH = 1000  # pixels at least, by whole enlargement


@dataclass(frozen=True)
class Note:
    """A sentence; ``missing`` where something is missing and the sentence says how to get it."""

    kind: ClassVar[str] = "note"
    text: str
    missing: bool = False


@dataclass(frozen=True)
class Table:
    """Cells of text by rows; the first cell of each is its head.

    text_columns: those that hold words; folded: hidden under the caption until a reader opens it.
    """

    kind: ClassVar[str] = "table"
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    text_columns: Sequence[int] = (0,)
    folded: bool = False


@dataclass(frozen=True)
class Strip:
    """A named row of images as a data URI, or why there is none."""

    name: str
    picture: str = ""
    missing: str = ""


@dataclass(frozen=True)
class Strips:
    kind: ClassVar[str] = "strips"
    strips: Sequence[Strip]


@dataclass(frozen=True)
class Figure:
    """A picture as a data URI."""

    caption: str
    picture: str
    wide: bool = False


@dataclass(frozen=True)
class Figures:
    kind: ClassVar[str] = "figures"
    figures: Sequence[Figure]


Part = Note | Table | Strips | Figures


@dataclass(frozen=True)
class Chapter:
    title: str
    parts: Sequence[Part]


def chapter(title: str, *builders: Callable[[], Iterable[Part]]) -> Chapter:
    """The parts that the builders return; where one raises UserError, its line in that place."""
    parts: list[Part] = []
    for build in builders:
        try:
            parts += build()
        except UserError as error:
            parts.append(Note(str(error), missing=True))
    return Chapter(title, parts)


def strip(name: str, load: Callable[[], NDArray[np.uint8]]) -> Strip:
    """Of the uint8 (N, C, H, W) images that ``load`` returns, or of the line of the UserError that it raises."""
    try:
        picture = io.BytesIO()
        Image.fromarray(tiles(load())).save(picture, "PNG", optimize=True)
        return Strip(name, picture=data_uri(picture.getvalue()))
    except UserError as error:
        return Strip(name, missing=str(error))


def tiles(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The first COLUMNS of uint8 (N, C, H, W) side by side, a pixel apart: (H', W', 4), clear where no image is."""
    count, _, height, width = images[:COLUMNS].shape
    picture = np.zeros((height, COLUMNS, width + 1, 4), np.uint8)
    picture[:, :count, :width, :3] = images[:COLUMNS].transpose(2, 0, 3, 1)  # gray is broadcast to RGB
    picture[:, :count, :width, 3] = 255
    flat = picture.reshape(height, -1, 4)[:, :-1]
    scale = -(-STRIP_WIDTH // flat.shape[1])
    return flat.repeat(scale, 0).repeat(scale, 1)


def data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def figure(draw: Callable[[Path], None] | Panel, caption: str, wide: bool = False) -> Figure:
    """What ``draw`` writes to the path that it is given, or the curves of a panel."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "picture.png"
        if isinstance(draw, Panel):
            plots.lines(path, [draw])
        else:
            draw(path)
        return Figure(caption, data_uri(path.read_bytes()), wide)


def number(value: float) -> str:
    """Four significant digits."""
    return f"{value:#.4g}"


def plain(value: Any) -> str:
    """A value of params.yaml or of a record."""
    if isinstance(value, list | tuple):
        return ", ".join(map(plain, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)
