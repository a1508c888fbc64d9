"""The pictures of a comparison."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddpm.pictures import plots
from ddpm.pictures.plots import Gap, Panel

BLUE = (0x00, 0x72, 0xB2)


def row(outcome: str, *differences: float, low: float, high: float) -> Gap:
    """A row of the picture."""
    return Gap("an arm", outcome, differences, float(np.mean(differences)), 0.0, low, high)


def width(path: Path) -> int:
    """Pixels from the first to the last of the colour of "better"."""
    columns = np.flatnonzero((np.asarray(Image.open(path).convert("RGB")) == BLUE).all(axis=2).any(axis=0))
    return int(columns[-1] - columns[0])


@pytest.mark.parametrize("sign", [1, -1])
def test_a_variant_far_from_the_others_leaves_them_readable(sign, tmp_path):
    near = [row("better", -1.0, -0.5, 0.5, low=-1.0, high=0.5), row("worse", 0.5, 1.0, low=0.2, high=1.2)]
    plots.gaps(tmp_path / "near.png", {"classifier.fd": near}, "differences")
    far = [*near, row("worse", sign * 900.0, sign * 1100.0, low=sign * 800.0, high=sign * 1200.0)]
    plots.gaps(tmp_path / "far.png", {"classifier.fd": far}, "differences")
    assert width(tmp_path / "far.png") > width(tmp_path / "near.png") / 3


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
