"""Blocks say the same in four forms, and text from outside stays text in each."""

import base64
import io
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from ddpm.base.errors import UserError
from ddpm.pictures import plots
from ddpm.pictures.plots import Panel
from ddpm.report import blocks, render
from ddpm.report.blocks import Chapter, Chart, Figure, Mark, Markdown, Note, Table, strip
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


def test_a_picture_of_few_colours_keeps_each():
    """So drawing a study's pictures again changes none."""
    few = np.stack([np.arange(64 * 64).reshape(64, 64) % 256] * 3, axis=2).astype(np.uint8)
    shown = Image.open(io.BytesIO(Figure("", "few", Image.fromarray(few).save).png())).convert("RGB")
    assert (np.asarray(shown) == few).all()


def test_a_terminal_shows_notes_and_aligned_tables():
    lines = ["metric  difference  verdict", "fd            -0.5  better", "kid            -10  too early"]
    expected = ["Answer", "", "cosine is better", "8 seeds", "", "A pair", *lines]
    assert render.text([ANSWER]).splitlines() == expected
    pictures = Chapter("Pictures", [Figure("one", "one", drawing)])
    assert render.text([Chapter("", [Note("alone")]), pictures]) == "alone"
    cut = ["metric  difference  v", "fd            -0.5  b", "kid            -10  t"]
    assert render.text([ANSWER], width=21).splitlines() == [*expected[:-3], *cut]


def test_markdown_writes_its_pictures_beside_the_page_if_it_is_asked_to(tmp_path):
    text = render.markdown([ANSWER, Chapter("More", [strip("s", "strip", IMAGES)])], tmp_path)
    assert text.startswith("## Answer\n\n- cosine is better\n- 8 seeds\n\n### A pair\n\n| metric")
    assert re.findall(r"!\[(.*)\]\((.*)\)", text) == [("The picture", "verdict.png"), ("s", "strip.png")]
    for name in ("verdict", "strip"):
        Image.open(tmp_path / f"{name}.png").load()
    assert "![" not in render.markdown([ANSWER])


def test_text_of_our_own_may_be_markdown():
    own, outside = Markdown("**[a](b)**\n\n* one"), "[a](b)"
    chapter = Chapter("", [Note(own), Note(outside), Table(["head"], [(own,), (outside,)])])
    assert render.markdown([chapter]).splitlines() == [
        "**[a](b)**", "", "* one", "", "- \\[a\\](b)", "", "| head |", "| --- |", f"| {own} |".splitlines()[0],
        "", "* one |", "| \\[a\\](b) |",
    ]  # fmt: skip
    assert "**[a](b)**" in Page(render.html("", "", [chapter])).text


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


def test_what_cannot_be_built_is_a_line():
    def fails() -> list[blocks.Block]:
        raise UserError("metrics/loss.csv: no such file")

    expected = [Note("a"), Note("metrics/loss.csv: no such file", missing=True)]
    assert blocks.chapter("t", lambda: [Note("a")], fails).blocks == expected


def gap(arm: str) -> SimpleNamespace:
    spread = {"differences": [1.0, 2.0], "difference": 1.5, "margin": 0.1, "low": 1.0, "high": 2.0}
    return SimpleNamespace(arm=arm, outcome="better", **spread)


def test_no_name_is_drawn_as_a_formula(tmp_path):
    name = r"$\frac{1}$"  # not even a valid one
    panel = Panel(name, name, name, {name: np.eye(2), "b": np.eye(2)}, {name: 1.0})
    plots.lines(tmp_path / "lines.png", [panel])
    plots.gaps(tmp_path / "gaps.png", {name: [gap(name)]}, name)


def test_a_long_title_stays_within_a_narrow_picture(monkeypatch):
    drawn = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: drawn.append(figure))
    plots.gaps(Path("unused.png"), {"fd": [gap("a")]}, "long title " * 10)
    (figure,) = drawn
    figure.draw_without_rendering()
    assert figure.bbox.x0 <= figure.get_tightbbox().x0 * figure.dpi
    assert figure.get_tightbbox().x1 * figure.dpi <= figure.bbox.x1


@pytest.mark.parametrize(("count", "outside"), [(3, False), (8, True), (12, True)])
def test_a_legend_tells_all_curves_apart_and_that_of_many_stands_once_and_next_to_them(count, outside, monkeypatch):
    drawn = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: drawn.append(figure))
    names = [f"arm {number}" for number in range(count)]
    curves = {name: np.array([[0.0, place], [1.0, place]]) for place, name in enumerate(names)}
    plots.lines(Path("unused.png"), [Panel("one", "x", "y", curves), Panel("two", "x", "y", curves, {"level": 1.0})])
    (figure,) = drawn
    figure.draw_without_rendering()
    legends = figure.legends or [axes.get_legend() for axes in figure.axes]
    assert [text.get_text() for text in legends[-1].get_texts()] == [*names, "level"]
    boxes = [axes.get_window_extent() for axes in figure.axes]
    inside = [any(box.overlaps(legend.get_window_extent()) for box in boxes) for legend in legends]
    assert inside == ([False] if outside else [True, True])
    assert len({(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines}) == count
