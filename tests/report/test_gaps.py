"""The pictures of a comparison."""

from pathlib import Path

import numpy as np
import pytest

from ddpm.pictures import plots
from ddpm.pictures.plots import Panel


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
