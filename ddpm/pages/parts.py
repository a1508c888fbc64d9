"""What a page is made of: sections of notes, tables, strips of images and figures; and numbers in words."""

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
from pydantic import TypeAdapter, ValidationError

from ddpm.base import files
from ddpm.base.errors import UserError
from ddpm.pictures import plots
from ddpm.pictures.plots import Panel

COLUMNS = 12  # images of a strip
STRIP_WIDTH = 1000  # pixels at least, by whole enlargement


@dataclass(frozen=True)
class Note:
    """A sentence; ``missing`` where it stands for something and says how to get it."""

    kind: ClassVar[str] = "note"
    text: str
    missing: bool = False


@dataclass(frozen=True)
class Table:
    """Cells of text by rows; the first cell of each is its head.

    text_columns: those that hold words; folded: hidden under its caption until that is opened.
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
class Section:
    title: str
    parts: Sequence[Part]


def section(title: str, builders: Iterable[Callable[[], Iterable[Part]]]) -> Section:
    """What the builders give; where one raises UserError, its line in that place."""
    parts: list[Part] = []
    for build in builders:
        try:
            parts += build()
        except UserError as error:
            parts.append(Note(str(error), missing=True))
    return Section(title, parts)


def read(path: Path, kind: Any = dict[str, Any]) -> Any:
    """A JSON file of that type. Raises UserError when it is missing or anything else."""
    try:
        return TypeAdapter(kind).validate_python(files.read_json(path))
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise UserError(f"{path}: {where} {error.errors()[0]['msg']}; `dvc repro` makes it anew") from error


def strip(name: str, load: Callable[[], NDArray[np.uint8]]) -> Strip:
    """Of the uint8 (N, C, H, W) images that ``load`` gives, or of the line of the UserError that it raises."""
    try:
        picture = io.BytesIO()
        Image.fromarray(tiles(load())).save(picture, "PNG", optimize=True)
        return Strip(name, picture=data_uri(picture.getvalue()))
    except UserError as error:
        return Strip(name, missing=str(error))


def tiles(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The first COLUMNS of uint8 (N, C, H, W) side by side, a pixel apart: (H', W', 4), clear where no image is."""
    _, _, height, width = images.shape
    picture = np.zeros((height, COLUMNS * (width + 1) - 1, 4), np.uint8)
    for i, image in enumerate(images[:COLUMNS]):
        place = picture[:, i * (width + 1) : i * (width + 1) + width]
        place[..., :3] = image.transpose(1, 2, 0)
        place[..., 3] = 255
    scale = -(-STRIP_WIDTH // picture.shape[1])
    return picture.repeat(scale, 0).repeat(scale, 1)


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
