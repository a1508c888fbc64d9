"""Blocks as a terminal's text, as Markdown and as HTML. Names of arms, params and files come from outside: none becomes
a tag, a picture or a cell, or moves a terminal's cursor. In Markdown, emphasis and code are left as they are.
"""

import base64
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import jinja2
from rich.cells import cell_len

from ddpm.base.errors import printable
from ddpm.base.files import write_text
from ddpm.report import chart
from ddpm.report.blocks import Block, Chapter, Figure, Markdown, Note, Table


def text(chapters: Sequence[Chapter], width: int | None = None) -> str:
    """Render notes and tables for a terminal, with lines cut off at ``width``. Pictures are left out."""

    def show(block: Block) -> str:
        if isinstance(block, Table):
            rows = [[printable(cell) for cell in row] for row in (block.columns, *block.rows)]
            return "\n".join(filter(None, [printable(block.caption), *(line[:width] for line in _align(rows, block))]))
        return printable(block.text) if isinstance(block, Note) else ""

    return _paragraphs(chapters, show, printable)


def _align(rows: Sequence[Sequence[str]], table: Table) -> Iterator[str]:
    """The rows as lines, columns two blanks apart: those of text begin at one place, those of numbers end at one."""
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        blanks = [" " * (width - cell_len(cell)) for width, cell in zip(widths, row, strict=True)]
        cells = (
            cell + blank if at in table.text_columns else blank + cell
            for at, (cell, blank) in enumerate(zip(row, blanks, strict=True))
        )
        yield "  ".join(cells).rstrip()


def markdown(chapters: Sequence[Chapter], folder: Path | None = None) -> str:
    """Render the chapters as Markdown. Pictures are written into the page's ``folder``; without one, left out."""

    def show(block: Block) -> str:
        match block:
            case Note():
                return escape(block.text) if isinstance(block.text, Markdown) else f"- {escape(block.text)}"
            case Table():
                ruler = ["---" if at in block.text_columns else "---:" for at in range(len(block.columns))]
                head, *body = [[escape(cell) for cell in row] for row in (block.columns, *block.rows)]
                lines = [f"| {' | '.join(cells)} |" for cells in (head, ruler, *body)]
                title = [f"### {escape(block.caption)}\n"] if block.caption else []
                return "\n".join([*title, *lines])
            case Figure() if folder:
                block.write(folder / f"{block.name}.png")
                return f"![{escape(block.caption)}]({block.name}.png)"
        return ""

    return _paragraphs(chapters, show, lambda title: f"## {escape(title)}") + "\n"


def _paragraphs(chapters: Sequence[Chapter], show: Callable[[Block], str], heading: Callable[[str], str]) -> str:
    """All blocks, one below the other. Notes that follow each other are lines of one paragraph; text of our own has its
    paragraphs."""
    paragraphs: list[str] = []
    for chapter in chapters:
        below: list[str] = []
        for is_line, group in groupby(chapter.blocks, _is_line):
            parts = list(filter(None, map(show, group)))
            below += ["\n".join(parts)] if is_line else parts
        paragraphs += [heading(chapter.title)] if chapter.title and below else []
        paragraphs += below
    return "\n\n".join(paragraphs)


def _is_line(block: Block) -> bool:
    return isinstance(block, Note) and not isinstance(block.text, Markdown)


def escape(text: str) -> str:
    """Text from outside as Markdown, which shows it as it is but for emphasis and code."""
    if isinstance(text, Markdown):
        return text
    return re.sub(r"([\\|[\]#])", r"\\\1", printable(text)).replace("&", "&amp;").replace("<", "&lt;")


def html(title: str, command: str, chapters: Sequence[Chapter], reload: int = 0) -> str:
    """One self-contained page: pictures are inlined, there is no script, and its content policy forbids it to fetch
    anything. command: the one that makes the page. reload: the seconds after which a browser reads it again; 0 if it is
    complete."""
    subtitle = f"Made on {datetime.now(UTC):%Y-%m-%d at %H:%M} UTC by {command}."
    shown: dict[str, Any] = {"title": title, "subtitle": subtitle, "chapters": chapters, "reload": reload}
    return fill("ddpm.report", "page.html", **shown, uri=_uri, place=chart.place)


def fill(package: str, name: str, **values: Any) -> str:
    """Fill in the template ``name`` in a package's folder. Into HTML, values are written escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(package, ""),
        autoescape=jinja2.select_autoescape(),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(name).render(**values)


def _uri(figure: Figure) -> str:
    return f"data:image/png;base64,{base64.b64encode(figure.png()).decode()}"


def write(path: Path, title: str, command: str, chapters: Sequence[Chapter]) -> None:
    """Write a page: Markdown if the path ends in .md, otherwise HTML. Raises UserError."""
    if path.suffix == ".md":
        content = f"# {escape(title)}\n\n{markdown(chapters, path.parent)}"
    else:
        content = html(title, command, chapters)
    write_text(path, content)
