"""A page that follows what runs: it is read again until that has ended, costs little, and draws what it is given."""

import math
from pathlib import Path

import pytest
from PIL import Image

from ddpm.report import live
from ddpm.report.blocks import Chapter, Note
from ddpm.report.chart import BOTTOM, LEFT, RIGHT, TOP, place
from ddpm.report.live import PAGE, Live, Tried
from tests.pages import Page


def reloads(page: str) -> bool:
    return ("meta", "http-equiv", "refresh") in Page(page).attributes


def chapters(text: str = "a line") -> list[Chapter]:
    return [Chapter("", [Note(text)])]


def test_a_page_reloads_until_its_end_and_says_that_it_was_stopped(tmp_path):
    said, path = [], tmp_path / PAGE
    with Live(path, "A title", "ddpm", said.append) as page:
        page(chapters)
        assert reloads(path.read_text())
        page.end(chapters("the end"))
        assert not reloads(path.read_text())
        assert "the end" in Page(path.read_text()).text
    assert len(said) == 1
    assert path.as_uri() in said[0]
    page = Live(path, "A title", "ddpm", said.append)
    page(chapters)
    with pytest.raises(KeyboardInterrupt), page:
        raise KeyboardInterrupt
    assert not reloads(path.read_text())
    assert len(Page(path.read_text()).missing) == 1


def test_a_search_is_drawn_with_the_best_so_far_that_keeps_the_guards():
    scores = {1: 2.0, 2: None, 3: 1.0, 4: 0.1, 5: 1.5}
    tried = [
        Tried(number, "a recipe", score, score or math.inf, "recall" if number == 4 else "", 3.0, live.TRIAL)
        for number, score in scores.items()
    ]
    chart, table = live.show_trials(tried, "score", {"target": 0.5}, [("proof", live.FIND, [0.8, 1.2])])
    assert chart.steps == [(1, 2.0), (3, 2.0), (3, 1.0), (4, 1.0), (5, 1.0)]
    assert [(mark.y, mark.low, mark.high) for mark in chart.marks[-1:]] == [(1.0, 0.8, 1.2)]
    assert [row[0] for row in table.rows] == ["3", "5", "1", "4", "2"]
    drawn = place(chart)
    assert BOTTOM > drawn["y"](0.1) > drawn["y"](0.5) > drawn["y"](2.0) > TOP
    assert LEFT < drawn["x"](1) < drawn["x"](4) < drawn["x"](chart.marks[-1].x) < RIGHT
    assert drawn["rows"] == [0.1, 0.2, 0.5, 1.0, 2.0]  # on a logarithmic axis


def test_a_picture_that_leads_elsewhere_is_not_shown(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "grid.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "grid.png")
    shown = live.side_by_side({"one": tmp_path / "grid.png", "link": tmp_path / "link.png", "none": Path("none.png")})
    assert [figure.caption for figure in shown] == ["one"]
