"""Pictures and films that a person looks at."""

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ddpm.base.errors import UserError
from ddpm.pictures import grids
from ddpm.pictures.grids import FRAMES_PER_SECOND, SMALLEST_SIDE
from ddpm.sampling.generator import FILM_FRAMES
from tests.small import pictures


def film_size(path) -> tuple[int, int]:
    """Height and width of a film."""
    width, height = next(imageio_ffmpeg.read_frames(str(path)))["size"]
    return height, width


@pytest.mark.parametrize(("count", "size"), [(1, 8), (64, 32), (4, 300)])
def test_small_pictures_are_enlarged_and_large_ones_stay(count, size):
    side = min(grids.grid(pictures(count, size)).shape[:2])
    assert side >= min(SMALLEST_SIDE * 2 / 3, size)
    assert side <= max(SMALLEST_SIDE * 1.5, 2 * (size + 1) + 1)


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


@pytest.mark.parametrize(("height", "width"), [(8, 12), (12, 8), (4, 64), (64, 4), (1, 2)])
def test_a_grid_of_many_images_is_about_square(height, width):
    down, across, _ = grids.grid(np.zeros((64, 1, height, width), np.uint8)).shape
    assert 1 / 2 <= down / across <= 2
    assert SMALLEST_SIDE / 2 <= min(down, across) <= SMALLEST_SIDE * 1.5


@pytest.mark.parametrize(("height", "width"), [(1, 2), (1, 1024), (300, 500)])
def test_films_of_oblong_images_are_neither_tiny_nor_huge(tmp_path, height, width):
    frames = [torch.zeros(64, 2, height, width, dtype=torch.uint8)] * 3
    grids.save_films(frames, tmp_path, "reverse")
    video = film_size(tmp_path / "reverse.mp4")
    with Image.open(tmp_path / "reverse.gif") as gif:
        for down, across in (video, gif.size[::-1]):
            assert 100 < max(down, across) < 2100


@pytest.mark.parametrize(("suffix", "format"), [("png", "PNG"), ("jpg", "JPEG")])
def test_the_suffix_chooses_the_format(tmp_path, suffix, format):
    path, shown = tmp_path / "new" / f"grid.{suffix}", pictures(6, channels=3)
    grids.save_grid(shown, path, columns=6)
    with Image.open(path) as picture:
        assert (picture.format, picture.mode) == (format, "RGB")
        same = np.array_equal(np.asarray(picture), grids.grid(shown, columns=6))
        assert same == (format == "PNG")


def test_a_picture_too_large_for_its_format_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"grid\.webp: 18001x3 pixels"):
        grids.save_grid(np.zeros((9000, 1, 1, 1), np.uint8), tmp_path / "grid.webp", 9000)


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


@pytest.mark.parametrize(
    ("channels", "height", "width"), [(1, 8, 6), (3, 8, 6), (2, 8, 12), (1, 1024, 1), (3, 1, 1024)]
)
def test_a_strip_is_neither_tiny_nor_a_tower(tmp_path, channels, height, width):
    grids.save_strip(np.zeros((30, channels, height, width), np.uint8), tmp_path / "strip.png")
    with Image.open(tmp_path / "strip.png") as picture:
        assert picture.width > picture.height or height > width
        assert 50 < max(picture.size) < 13_000


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


@pytest.mark.long
@pytest.mark.parametrize(("count", "size"), [(64, 32), (64, 41), (64, 64), (4, 272)])
def test_no_film_is_large_and_the_same_frames_give_the_same_bytes(tmp_path, count, size):
    """Noise in colour, which nothing compresses, in as many frames as sampling makes."""
    frames = noise(FILM_FRAMES, count, 3, size)
    for folder in ("first", "second"):
        grids.save_films(frames, tmp_path / folder, "reverse")
    for name in ("reverse.gif", "reverse.mp4"):
        assert (tmp_path / "first" / name).stat().st_size <= 1_500_000
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


@pytest.mark.parametrize("size", [100, 1000])
def test_films_of_large_images_show_fewer_of_them(tmp_path, size):
    grids.save_films(noise(2, 64, 1, size), tmp_path, "reverse")
    video = film_size(tmp_path / "reverse.mp4")
    with Image.open(tmp_path / "reverse.gif") as gif:
        assert grids.GIF_SIDE / 2 <= min(gif.size) <= grids.GIF_SIDE * 1.25
    assert max(video) <= grids.MP4_SIDE + 16
