"""The picture of a comparison."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddpm.pictures import plots
from ddpm.pictures.plots import Gap

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
