"""Pictures and films that a person looks at."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ddpm.pictures import grids


@settings(max_examples=40)
@given(
    count=st.integers(1, 12),
    channels=st.integers(1, 6),
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    columns=st.none() | st.integers(1, 12),
)
def test_a_grid_of_any_images_shows_gray_or_the_first_three_channels(count, channels, height, width, columns):
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (count, channels, height, width), dtype=np.uint8)
    picture = grids.grid(images, columns, side=0)
    border = 1 if count > 1 else 0
    across = (picture.shape[1] - border) // (width + border)
    if columns:
        assert across == min(columns, count)
    for i, image in enumerate(images):
        top, left = (
            border + (side + border) * place for side, place in zip((height, width), divmod(i, across), strict=True)
        )
        tile = picture[top : top + height, left : left + width].transpose(2, 0, 1)
        np.testing.assert_array_equal(tile, image[:3] if channels >= 3 else image[:1].repeat(3, 0))
