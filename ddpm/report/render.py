"""Blocks as a terminal's text, as Markdown, as HTML and as JSON. Text stays text in each of them: names of arms, params
and files come from outside, and none becomes markup or moves a terminal's cursor.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib import resources
from itertools import groupby
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from tabulate import tabulate

from ddpm.base.errors import printable
from ddpm.base.files import atomic_path
from ddpm.report.blocks import Block, Chapter, Figure, Markdown, Note, Strip, Table


def text(chapters: Sequence[Chapter]) -> str:
    """For a terminal: notes and tables. Pictures are left out."""
    paragraphs: list[str] = []
    for chapter in chapters:
        paragraphs += [printable(chapter.title)] * bool(chapter.title)
        shown = (block for block in chapter.blocks if isinstance(block, Note | Table))
        for is_note, group in groupby(shown, lambda block: isinstance(block, Note)):
            lines = [printable(block.text) if isinstance(block, Note) else _aligned(block) for block in group]
            paragraphs += ["\n".join(lines)] if is_note else lines
    return "\n\n".join(paragraphs)


def _aligned(table: Table) -> str:
    rows = [[printable(cell) for cell in row] for row in (table.columns, *table.rows)]
    sides = ["left" if at in table.text_columns else "right" for at in range(len(table.columns))]
    lines = tabulate(rows, tablefmt="plain", disable_numparse=True, colalign=sides)
    return f"{printable(table.caption)}\n{lines}".removeprefix("\n")


def _piped(table: Table) -> str:
    ruler = ["---" if at in table.text_columns else "---:" for at in range(len(table.columns))]
    head, *body = [[_escaped(cell) for cell in row] for row in (table.columns, *table.rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ruler, *body))


def markdown(chapters: Sequence[Chapter], folder: Path | None = None) -> str:
    """As Markdown. The pictures are written into the page's ``folder``; without one they are left out."""
    paragraphs: list[str] = []
    names: list[str] = []

    def picture(block: Figure | Strip) -> Iterator[str]:
        if folder:
            caption, name = (block.caption, block.name) if isinstance(block, Figure) else (block.name, "strip")
            file = f"{name}.png" if name not in names else f"{name}_{names.count(name) + 1}.png"
            names.append(name)
            with atomic_path(folder / file) as temporary:
                temporary.write_bytes(block.png())
            yield f"![{_escaped(caption)}]({file})"

    for chapter in chapters:
        paragraphs += [f"## {_escaped(chapter.title)}"] * bool(chapter.title)
        for is_list, group in groupby(chapter.blocks, _is_item):
            lines: list[str] = []
            for block in group:
                match block:
                    case Note():
                        lines.append(f"{'- ' * is_list}{_escaped(block.text)}")
                    case Table():
                        lines += [f"### {_escaped(block.caption)}"] * bool(block.caption)
                        lines.append(_piped(block))
                    case _:
                        lines += picture(block)
            paragraphs += ["\n".join(lines)] if is_list else lines
    return "\n\n".join(paragraphs) + "\n"


def _is_item(block: Block) -> bool:
    """Whether it is an item of a list."""
    return isinstance(block, Note) and not isinstance(block.text, Markdown)


def _escaped(text: str) -> str:
    if isinstance(text, Markdown):
        return text
    return re.sub(r"([\\|[\]#])", r"\\\1", printable(text)).replace("<", "&lt;")


def html(title: str, command: str, chapters: Sequence[Chapter]) -> str:
    """One self-contained page: pictures are inlined, there is no script, and its content policy forbids it to fetch
    anything. command: the one that makes the page."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ddpm.report", ""),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["kind"] = lambda block: type(block).__name__
    environment.filters["uri"] = lambda block: f"data:image/png;base64,{base64.b64encode(block.png()).decode()}"
    css = Markup((resources.files("ddpm.report") / "page.css").read_text())  # noqa: S704 (our own file)
    subtitle = f"Made on {datetime.now(UTC):%Y-%m-%d at %H:%M} UTC by {command}."
    page = environment.get_template("page.html")
    return page.render(title=title, subtitle=subtitle, css=css, chapters=chapters)


def write(path: Path, title: str, command: str, chapters: Sequence[Chapter]) -> None:
    """Write a page: JSON or Markdown if the path ends in .json or .md, otherwise HTML. Raises UserError."""
    match path.suffix:
        case ".json":
            content = json.dumps({"title": title, **to_dict(chapters)}, indent=2)
        case ".md":
            content = f"# {_escaped(title)}\n\n{markdown(chapters, path.parent)}"
        case _:
            content = html(title, command, chapters)
    with atomic_path(path) as temporary:
        temporary.write_text(content, encoding="utf-8")


def to_dict(chapters: Sequence[Chapter]) -> dict[str, list[dict[str, Any]]]:
    """As JSON: a chapter's title -> its blocks. All cells are text; of pictures there are the captions."""
    return {chapter.title: list(map(_plain, chapter.blocks)) for chapter in chapters}


def _plain(block: Block) -> dict[str, Any]:
    match block:
        case Note():
            return {"note": block.text, "missing": block.missing}
        case Table():
            return {"table": block.caption, "columns": list(block.columns), "rows": [list(row) for row in block.rows]}
        case Figure():
            return {"figure": block.caption}
        case Strip():
            return {"strip": block.name}
