"""Pictures and films that a person looks at."""

import numpy as np
import pytest
from PIL import Image

from ddpm.pictures import grids


@pytest.mark.parametrize(("count", "channels", "columns", "across"), [(1, 1, None, 1), (7, 3, 3, 3), (5, 5, 9, 5)])
def test_a_grid_shows_each_image_in_gray_or_by_its_first_three_channels(count, channels, columns, across):
    images = np.random.default_rng(0).integers(0, 256, (count, channels, 5, 8), dtype=np.uint8)
    picture = grids.grid(images, columns, side=0)
    border = 1 if count > 1 else 0
    assert (picture.shape[1] - border) // (8 + border) == across
    for i, image in enumerate(images):
        top, left = (border + (side + border) * place for side, place in zip((5, 8), divmod(i, across), strict=True))
        tile = picture[top : top + 5, left : left + 8].transpose(2, 0, 1)
        np.testing.assert_array_equal(tile, image[:3] if channels >= 3 else image[:1].repeat(3, 0))


def test_pictures_are_joined_in_their_order_with_their_names(tmp_path):
    strips = {name: tmp_path / f"{name}.png" for name in ("upper", "lower")}
    for shade, path in zip((10, 200), strips.values(), strict=True):
        grids.save_strip(np.full((12, 1, 8, 8), shade, np.uint8), path)
    width, height = Image.open(strips["upper"]).size
    names = {0: np.s_[:, :-width], 1: np.s_[:-height]}
    for axis, pixels in {0: np.s_[:, -width:], 1: np.s_[-height:]}.items():
        grids.join(strips, tmp_path / "both.png", in_a_row=bool(axis))
        both = np.asarray(Image.open(tmp_path / "both.png").convert("L"))
        for half, path in zip(np.split(both, 2, axis), strips.values(), strict=True):
            np.testing.assert_array_equal(half[pixels], np.asarray(Image.open(path).convert("L")))
            assert half[names[axis]].min() == 0
