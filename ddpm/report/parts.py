"""What a page is made of: sections of notes, tables, strips of images and figures; and numbers in words."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from ddpm import files, plots
from ddpm.errors import UserError
from ddpm.plots import Panel

COLUMNS = 12  # images of a strip
STRIP_WIDTH = 1000  # pixels at least, by whole enlargement

T = TypeVar("T")


@dataclass(frozen=True)
class Note:
    """A sentence; ``missing`` where it stands for something and says how to get it."""

    kind: ClassVar[str] = "note"
    text: str
    missing: bool = False


@dataclass(frozen=True)
class Table:
    """Cells of text by rows; the first cell of each is its head.

    text_columns: those that hold words; folded: hidden under its caption until that is opened; badges: words that are
    shown as such.
    """

    kind: ClassVar[str] = "table"
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    text_columns: Sequence[int] = (0,)
    folded: bool = False
    badges: Sequence[str] = ()


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
    """A picture as a data URI for light pages, and one for dark pages where it is another."""

    caption: str
    light: str
    dark: str = ""
    wide: bool = False


@dataclass(frozen=True)
class Figures:
    kind: ClassVar[str] = "figures"
    figures: Sequence[Figure]


Part = Note | Table | Strips | Figures


@dataclass(frozen=True)
class Section:
    anchor: str
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
    return Section(title.lower().replace(" ", "-"), title, parts)


def read(path: Path, adapter: TypeAdapter[T]) -> T:
    """A JSON file of that type. Raises UserError when it is missing or anything else."""
    try:
        return adapter.validate_python(files.read_json(path))
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise UserError(f"{path}: {where} {error.errors()[0]['msg']}; `dvc repro` makes it anew") from error


def strip(name: str, load: Callable[[], NDArray[np.uint8]]) -> Strip:
    """Of the uint8 (N, C, H, W) images that ``load`` gives, or of the line of the UserError that it raises."""
    try:
        return Strip(name, picture=data_uri(_png(tiles(load()))))
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


def _png(picture: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def figure(panel: Panel, caption: str) -> Figure:
    """The panel drawn for light and for dark pages."""
    light, dark = plots.themed(lambda path: plots.lines(path, [panel]))
    return Figure(caption, data_uri(light), data_uri(dark))


def number(value: float) -> str:
    """Four significant digits."""
    if value != 0 and (abs(value) >= 1e6 or abs(value) < 1e-4):
        return f"{value:.3e}"
    whole = math.floor(math.log10(abs(value))) + 1 if value else 0
    if whole <= 0:
        return f"{value:#.4g}" if value else "0"
    return f"{value:,.{max(0, 4 - whole)}f}"


def signed(value: float) -> str:
    return f"{'+' if value > 0 else ''}{number(value)}"


def optional(value: Any, shown: Callable[[Any], str]) -> str:
    return "" if value is None else shown(value)


def plain(value: Any) -> str:
    """A value of params.yaml or of a record."""
    if isinstance(value, list | tuple):
        return ", ".join(map(plain, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)
