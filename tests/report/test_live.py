"""A page that follows what runs: it is read again until that has ended, costs little, and draws what it is given."""

import time
from pathlib import Path

import pytest
from PIL import Image

from ddpm.report import chart, live
from ddpm.report.blocks import Chapter, Chart, Mark, Note, Table
from ddpm.report.live import CHAMPION, FAILS, FIND, PAGE, TRIAL, Live, Tried
from tests.pages import Page

HOSTILE = "<img src=x onerror=alert(1)>"
TRIED = [
    Tried(1, "the champion", 3.0, 3.0, "", 1.0, CHAMPION),
    Tried(2, HOSTILE, 0.5, 0.5, "memorisation", 1.0, FAILS),
    Tried(3, "muon", None, float("inf"), "", 1.0, TRIAL),
    Tried(4, "x0", 2.0, 2.0, "", 1.0, FIND),
    Tried(5, "linear", 9.0, 9.0, "", 1.0, TRIAL),
]


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


def test_a_page_that_takes_long_is_written_less_often(tmp_path):
    built = []

    def slow() -> list[Chapter]:
        built.append(time.sleep(0.05))
        return chapters()

    page = Live(tmp_path / PAGE, "", "", lambda _: None)
    for _ in range(100):
        page(slow)
    assert len(built) == 1


def test_trials_are_shown_with_the_best_so_far_which_keeps_the_guards():
    drawn, table = live.show_trials(TRIED, "FD", {"a Gaussian": 4.0}, [("proof", FIND, [1.9, 2.2])])
    assert isinstance(drawn, Chart)
    assert isinstance(table, Table)
    assert [mark.x for mark in drawn.marks[:-1]] == [1, 2, 4, 5]
    assert (drawn.marks[-1].low, drawn.marks[-1].high) == (1.9, 2.2)
    assert drawn.steps == [(1, 3.0), (2, 3.0), (4, 3.0), (4, 2.0), (5, 2.0)]
    assert [row[0] for row in table.rows] == ["4", "1", "5", "2", "3"]
    assert live.show_trials([], "FD", {}, []) == []


@pytest.mark.parametrize("scores", [(3.0, 3.0), (-1.0, 2.0), (0.001, 900.0), (0.0, 0.0), (5.0, 6.0)])
def test_every_mark_and_tick_of_a_chart_is_within_it(scores):
    marks = [Mark(place, score, "", "a", score - 0.0005, score) for place, score in enumerate(scores)]
    at = chart.place(Chart("", "", marks, {"a": ""}, {"level": scores[0]}))
    assert all(at["left"] <= at["x"](mark.x) <= at["right"] for mark in marks)
    assert all(0 < at["y"](value) < at["height"] for value in (*scores, *at["rows"]))
    assert at["rows"]
    low, high = map(at["y"], scores)
    assert (low > high) == (scores[0] < scores[1])  # up is more


def test_a_picture_that_leads_elsewhere_is_not_shown(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "grid.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "grid.png")
    shown = live.side_by_side({"one": tmp_path / "grid.png", "link": tmp_path / "link.png", "none": Path("none.png")})
    assert [figure.caption for figure in shown] == ["one"]


def test_sides_are_shown_by_seed():
    (drawn,) = live.show_sides({HOSTILE: {0: 1.0, 5: 2.0}, "b": {0: 3.0}, "none": {}}, "FD", {})
    assert [(mark.kind, mark.y) for mark in drawn.marks] == [(HOSTILE, 1.0), (HOSTILE, 2.0), ("b", 3.0)]
    assert drawn.marks[0].x < drawn.marks[1].x < drawn.marks[2].x
    assert [*drawn.kinds] == [HOSTILE, "b"]
