"""Blocks, of which all that is shown is made: notes, tables, figures and strips of images, in chapters.

Blocks are data. Figures and strips are drawn by the renderers that show them, so a terminal's text costs no drawing.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddpm.base.errors import UserError
from ddpm.pictures import plots, strips
from ddpm.pictures.plots import Panel

COLOURS = 64  # of a figure
RARE_STAY = Image.Quantize.MAXCOVERAGE  # the other methods merge a rare colour with a frequent one


class Markdown(str):
    """Text of our own that has links or emphasis. The renderer of Markdown leaves it as it is, and escapes all else."""

    __slots__ = ()


@dataclass(frozen=True)
class Note:
    """A sentence; ``missing`` if something is missing and the sentence says how to get it. One of ``Markdown`` may have
    paragraphs and lists."""

    text: str
    missing: bool = False


@dataclass(frozen=True)
class Table:
    """Cells of text by rows; the first cell of each row is its head.

    text_columns: the columns that hold words, not numbers. folded: hidden on a page until a reader opens it.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    text_columns: Sequence[int] = (0,)
    folded: bool = False


@dataclass(frozen=True)
class Figure:
    """Panels of curves, or a picture that ``drawing`` writes to a given path. name: of its file next to a Markdown
    page; wide: takes a page's whole width, while others stand next to each other."""

    caption: str
    drawing: Sequence[Panel] | Callable[[Path], object]
    name: str = "figure"
    wide: bool = False

    def png(self) -> bytes:
        """Draw it; return the content of a PNG file, of at most COLOURS, which takes a third of the space."""
        content = io.BytesIO()
        with TemporaryDirectory() as folder:
            path = Path(folder) / "figure.png"
            if callable(self.drawing):
                self.drawing(path)
            else:
                plots.lines(path, self.drawing)
            with Image.open(path) as picture:
                few = picture if picture.mode == "P" else picture.convert("RGB").quantize(COLOURS, RARE_STAY)
                few.save(content, "PNG", optimize=True)
        return content.getvalue()


@dataclass(frozen=True, eq=False)
class Strip:
    """A named row of the first strips.COLUMNS of uint8 (N, C, H, W) images."""

    name: str
    images: NDArray[np.uint8]

    def png(self) -> bytes:
        """Draw it; return the content of a PNG file."""
        return strips.png(self.images)


Block: TypeAlias = Note | Table | Figure | Strip


@dataclass(frozen=True)
class Chapter:
    """Blocks under a title; without a heading if that is empty."""

    title: str
    blocks: Sequence[Block]


def chapter(title: str, *builders: Callable[[], Iterable[Block]]) -> Chapter:
    """The blocks of all ``builders``; instead of one that raises UserError, its line."""
    blocks: list[Block] = []
    for build in builders:
        try:
            blocks += build()
        except UserError as error:
            blocks.append(Note(str(error), missing=True))
    return Chapter(title, blocks)


def number(value: float) -> str:
    """The value with four significant digits."""
    return f"{value:#.4g}"


def plain(value: Any) -> str:
    """A value from params.yaml or from a record, as text."""
    if isinstance(value, list | tuple):
        return ", ".join(map(plain, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)
