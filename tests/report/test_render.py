"""Blocks say the same in four forms, and text from outside stays text in each."""

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddpm.report import render
from ddpm.report.blocks import Chapter, Chart, Figure, Mark, Note, Table, cell, strip
from tests.pages import Page

HOSTILE = "</style><script>alert(1)</script>\"'&<img src=x onerror=alert(1)>![a](http://evil)|\x1b[2J\u202e\n# b"
IMAGES = np.arange(3 * 8 * 6, dtype=np.uint8).reshape(3, 1, 8, 6)


def drawing(path: Path) -> None:
    Image.new("L", (2, 2), 7).save(path)


def of(text: str) -> list[Chapter]:
    """Every kind of block, with that text wherever there may be some."""
    blocks = [
        Note(text), Note(text, missing=True), Table([text, text], [(text, text)], text),
        Table([text], [(text,)], text, folded=True), strip(text, "strip", IMAGES), Figure(text, "figure", drawing),
        Chart(text, text, [Mark(1, 2, text, text, 1, 3)], {text: text}, {text: 9.0}, [(1, 2)], {1: text}),
    ]  # fmt: skip
    return [Chapter(text, blocks)]


ANSWER = Chapter(
    "Answer",
    [
        Note("cosine is better"),
        Note("8 seeds"),
        Table(["metric", "difference", "verdict"], [("fd", "-0.5", "better"), ("kid", "-10", "too early")], "A pair",
              text_columns=(0, 2)),
        Figure("The picture", "verdict", drawing),
    ],
)  # fmt: skip


def test_a_page_needs_nothing_but_itself():
    html = render.html("A title", "ddpm report", of("words"))
    page = Page(html)
    loaded = [(tag, value) for tag, name, value in page.attributes if name in {"src", "srcset", "href", "action"}]
    assert [tag for tag, _ in loaded] == ["a", "img", "img"]
    for tag, value in loaded:
        assert value.startswith("#" if tag == "a" else "data:image/png;base64,")
        if tag == "img":
            Image.open(io.BytesIO(base64.b64decode(value.partition(",")[2]))).load()
    assert not {"script", "link", "iframe", "object", "base", "form"} & set(page.tags)
    css = html.partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in css
    assert "@import" not in css
    assert ("meta", "content", "default-src 'none'; img-src data:; style-src 'unsafe-inline'") in page.attributes
    assert {value for _, name, value in page.attributes if name == "id"} == {"words"}
    assert page.missing == ["words"]
    assert '<span class="badge too-early">too early</span>' in render.html("", "", [ANSWER])


def test_text_never_becomes_markup_or_moves_a_cursor(tmp_path):
    html = render.html(HOSTILE, "ddpm report", of(HOSTILE))
    page = Page(html)
    assert "script" not in page.tags
    assert not {"onerror", "onload", "onclick"} & {name for _, name, _ in page.attributes}
    assert page.text.count("<script>alert(1)</script>") == 22
    for text in (render.text(of(HOSTILE)), render.markdown(of(HOSTILE), tmp_path)):
        assert all(character.isprintable() or character == "\n" for character in text)
        assert not [line for line in text.splitlines() if line.startswith("# ")]
    markdown = render.markdown(of(HOSTILE), tmp_path)
    assert "<" not in markdown
    assert "'&amp;&lt;img" in markdown
    assert re.findall(r"(?<!\\)\]\(([^)]*)\)", markdown) == ["strip.png", "figure.png"]
    for line in filter(lambda line: line.startswith("|"), markdown.splitlines()):
        assert len(re.findall(r"(?<!\\)\|", line)) in (2, 3), "a cell stays a cell"


def shade(level: int) -> Figure:
    return Figure("", "figure", lambda to: Image.new("RGB", (4, 4), (7, level, 7)).save(to))


@pytest.mark.parametrize(("old", "stays"), [(shade(20).png(), True), (shade(60).png(), False), (b"\x89PNG", False)])
def test_a_picture_is_written_over_one_that_looks_different_or_cannot_be_read(tmp_path, old, stays):
    path = tmp_path / "figure.png"
    path.write_bytes(old)
    shade(7).write(path)
    assert path.read_bytes() == (old if stays else shade(7).png())


@pytest.mark.parametrize(("value", "text"), [(None, "-"), (-0.0, "0"), (-0.25, "-0.25"), (1e-9, "1e-09"), (7, "7")])
def test_a_cell_is_a_number_as_a_person_writes_it(value, text):
    assert cell(value) == text
