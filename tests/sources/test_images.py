"""Pictures and films that a person looks at."""

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ddpm.pictures import grids
from ddpm.pictures.grids import FRAMES_PER_SECOND
from tests.small import pictures


def film_size(path) -> tuple[int, int]:
    """Height and width of a film."""
    width, height = next(imageio_ffmpeg.read_frames(str(path)))["size"]
    return height, width


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


@pytest.mark.parametrize(
    ("titles", "names"), [(["step 4,000"], []), (["t = 0", "an\nodd name " * 9, ""], ["daisies", "розы"])]
)
def test_labels_stand_beside_the_grid_and_not_on_it(tmp_path, titles, names):
    shown, path = pictures(6), tmp_path / "grid.png"
    grids.save_grid(shown, path, 3, titles, names)
    plain = grids.grid(shown, 3)
    with Image.open(path) as picture:
        whole = np.asarray(picture)
    top, left = (whole.shape[axis] - plain.shape[axis] for axis in (0, 1))
    np.testing.assert_array_equal(whole[top:, left:], plain)
    written = [part.min() < 128 for part in np.array_split(whole[:top, left:], len(titles), axis=1)]
    assert written == [bool(title) for title in titles]
    assert not names or all(part.min() < 128 for part in np.array_split(whole[top:, :left], len(names)))
    assert whole[:top, [left, -1]].min() > 128  # nothing is cut off


def noise(frames: int, count: int, channels: int, size: int) -> list[torch.Tensor]:
    generator = np.random.default_rng(0)
    shape = (count, channels, size, size)
    return [torch.from_numpy(generator.integers(0, 256, shape, dtype=np.uint8)) for _ in range(frames)]


@pytest.mark.parametrize(("count", "size"), [(1, 8), (4, 9)])
def test_films_show_every_frame_and_hold_the_last_for_a_second(tmp_path, count, size):
    frames = noise(5, count, 1, size)
    grids.save_films(frames, tmp_path, "reverse")
    expected = [grids.grid(frame) for frame in frames]
    assert imageio_ffmpeg.count_frames_and_secs(str(tmp_path / "reverse.mp4"))[0] == len(frames) + FRAMES_PER_SECOND
    height, width = expected[0].shape[:2]
    assert film_size(tmp_path / "reverse.mp4") == (height // 2 * 2, width // 2 * 2)
    with Image.open(tmp_path / "reverse.gif") as gif:
        durations = []
        for place, frame in enumerate(frames):
            gif.seek(place)
            durations.append(gif.info["duration"])
            shown = np.asarray(gif.convert("RGB")).astype(int)
            small = grids.grid(frame, side=0)
            scale = shown.shape[0] // small.shape[0]
            assert grids.GIF_SIDE * 2 / 3 <= min(shown.shape[:2]) <= grids.GIF_SIDE * 1.5
            wanted = small.repeat(scale, 0).repeat(scale, 1)
            assert np.abs(shown - wanted).max() <= 8  # 64 colours
        assert gif.n_frames == len(frames)
        assert durations == [120] * 4 + [1120]  # a GIF counts in hundredths
        assert gif.info["loop"] == 0
    assert sorted(file.name for file in tmp_path.iterdir()) == ["reverse.gif", "reverse.mp4"]
