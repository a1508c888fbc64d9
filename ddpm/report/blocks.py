"""Blocks, from which everything that is shown is made: notes, tables, figures and strips of images, in chapters.

Blocks are data. Pictures are drawn by the renderers that show them, so a terminal's text costs no drawing.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from ddpm.base.files import atomic_path
from ddpm.base.images import Images
from ddpm.data.pixels import BROKEN
from ddpm.pictures import grids

ROUNDING = 16  # of 255: how much a pixel of the same picture may differ, with another palette


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
    """A picture that ``drawing`` writes to a given path. name: of its file next to a Markdown page. narrow: on a page
    it stands next to others."""

    caption: str
    name: str
    drawing: Callable[[Path], object]
    narrow: bool = False

    def png(self) -> bytes:
        """Draw it; return the content of a PNG file with a palette, which takes a third of the space."""
        content = io.BytesIO()
        with TemporaryDirectory() as folder:
            path = Path(folder) / "figure.png"
            self.drawing(path)
            few = Image.open(path).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE)
        few.save(content, "PNG", optimize=True)
        return content.getvalue()

    def write(self, path: Path) -> None:
        """Draw it to a PNG file. One that looks the same stays: the edges of lines depend on the processor."""
        new = self.png()
        if not path.exists() or not _look_same(path.read_bytes(), new):
            with atomic_path(path) as temporary:
                temporary.write_bytes(new)


def _look_same(*pictures: bytes) -> bool:
    try:
        one, other = (np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"), np.int16) for picture in pictures)
    except BROKEN:
        return False
    return one.shape == other.shape and np.abs(one - other).max() <= ROUNDING


Levels: TypeAlias = Mapping[str, float | None]  # by name; None: not known


@dataclass(frozen=True)
class Mark:
    """A point of a chart, of one of its kinds. label: what a reader sees who points at it. low, high: ends of a bar."""

    x: float
    y: float
    label: str
    kind: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Chart:
    """Scores as points, which a page draws itself: nothing is imported, so a page may be written after each run.

    kinds: of marks -> what they are; the colours follow their order. levels: names of horizontal lines. steps: the
    corners of a line, such as the best so far. ticks: names of places on the x axis.
    """

    caption: str
    axis: str
    marks: Sequence[Mark]
    kinds: Mapping[str, str]
    levels: Levels = field(default_factory=dict)
    steps: Sequence[tuple[float, float]] = ()
    ticks: Mapping[float, str] = field(default_factory=dict)


Block: TypeAlias = Note | Table | Figure | Chart


@dataclass(frozen=True)
class Chapter:
    """Blocks under a title; without a heading if that is empty."""

    title: str
    blocks: Sequence[Block]


def strip(caption: str, name: str, images: Images) -> Figure:
    """The first of the (N, C, H, W) images in a row."""
    return Figure(caption, name, partial(grids.save_strip, images))


def cell(value: Any) -> str:
    """A number or a name in a table; a dash if it is not known."""
    return "-" if value is None else f"{value + 0.0:.4g}" if isinstance(value, float) else str(value)  # -0.0 is 0


def plain(value: Any) -> str:
    """A value from params.yaml or from a record, as text."""
    if isinstance(value, list | tuple):
        return ", ".join(map(plain, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)
