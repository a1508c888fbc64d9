"""An index of train images finds copies of any of them, and mostly the very nearest."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ddpm.base.errors import UserError
from ddpm.data.processed import open_split
from ddpm.evaluation import evaluation
from ddpm.scoring import distances, memorisation, neighbours, reference
from ddpm.scoring.memorisation import Nearest
from ddpm.scoring.settings import Evaluate
from ddpm.variants.datasets.mixture import Mixture

CPU = torch.device("cpu")
SETTINGS = Evaluate(extractors=("random_conv",), metrics=("fid",))
PLANTED = 200
Images = NDArray[np.uint8]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Images, Images]:
    """6,000 train and 500 other images of a mixture, 16x16x1. Half of each pixel's variation is noise of its own, so
    that the nearest is harder to tell from the next than in pictures."""
    folder = tmp_path_factory.mktemp("mixture")
    Mixture(count=6500).download(None, folder)
    with np.load(folder / "mixture.npz") as found:
        images = found["images"].reshape(6500, 1, 16, 16)
    return images[:6000], images[6000:]


def indexed(folder: Path, train: Images, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, ...]:
    """In three files."""
    monkeypatch.setattr(neighbours, "PER_FILE", 2500)
    vectors = neighbours.coarse(torch.from_numpy(train))
    writer = neighbours.Writer(folder, "pixels", vectors[distances.rows(6000, 3000).numpy()])
    for block in np.split(vectors, 12):
        writer.add(block)
    writer.close()
    return neighbours.files(folder, "pixels")


def noisy(images: Images) -> Images:
    return np.clip(images + np.random.default_rng(1).normal(0, 8, images.shape), 0, 255).round().astype(np.uint8)


@pytest.mark.parametrize("change", [np.copy, noisy, lambda images: np.clip(images.astype(int) + 10, 0, 255)])
def test_copies_of_any_image_are_found(
    change: Callable[[Images], Images], drawn: tuple[Images, Images], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, _ = drawn
    rows = np.random.default_rng(0).permutation(len(train))[:PLANTED]
    index = indexed(tmp_path, train, monkeypatch)
    found = memorisation.nearest(change(train[rows]).astype(np.uint8), train, CPU, index)
    assert len(index) == 3
    assert np.mean(found.row == rows) >= 0.99
    assert change is not np.copy or not found.distance.any()


def test_other_images_are_found_about_as_near_as_they_are(
    drawn: tuple[Images, Images], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, others = drawn
    found = memorisation.nearest(others, train, CPU, indexed(tmp_path, train, monkeypatch))
    exact = memorisation.nearest(others, train, CPU)
    assert np.mean(found.distance == exact.distance) > 0.8
    assert (found.distance >= exact.distance).all()
    assert (found.distance / exact.distance).max() < 1.1
    np.testing.assert_allclose(found.relative, exact.relative, atol=0.05)


def test_an_image_is_not_its_own_neighbour(
    drawn: tuple[Images, Images], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = np.concatenate([drawn[0][:5999], drawn[0][:1]])  # the last is a copy of the first
    rows = np.array([0, 7, 5999, 7])
    by_index = memorisation.Space(train, CPU, indexed(tmp_path, train, monkeypatch)).apart(rows)
    exact = memorisation.Space(train, CPU).apart(rows)
    assert exact[0] == exact[2] == 0 < exact[1]
    np.testing.assert_allclose(by_index, exact, rtol=0.1)


def test_few_neighbours_in_the_lists_looked_at_are_made_up_for_by_the_others(
    drawn: tuple[Images, Images], tmp_path: Path
) -> None:
    train, others = (neighbours.coarse(torch.from_numpy(images)) for images in drawn)
    writer = neighbours.Writer(tmp_path, "few", train)
    writer.add(train[:40])
    writer.close()
    found = neighbours.candidates(neighbours.files(tmp_path, "few"), others[:5], 64)
    assert found.shape == (5, 64)
    assert all(sorted(row) == [-1] * 24 + list(range(40)) for row in found.tolist())


def test_it_takes_one_thread_and_leaves_torch_its_own(tmp_path: Path, drawn: tuple[Images, Images]) -> None:
    threads, made = torch.get_num_threads(), []
    vectors = neighbours.coarse(torch.from_numpy(drawn[0]))
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            writer = neighbours.Writer(tmp_path, str(count), vectors)
            writer.add(vectors)
            writer.close()
            assert torch.get_num_threads() == count
            made.append(neighbours.files(tmp_path, str(count))[0].read_bytes())
    finally:
        torch.set_num_threads(threads)
    assert made[0] == made[1]


def test_large_images_are_looked_at_coarsely() -> None:
    images = torch.randint(0, 256, (3, 3, 64, 50), dtype=torch.uint8)
    found = neighbours.coarse(images)
    expected = images.double().reshape(3, 3, 32, 2, 25, 2).mean((3, 5))
    expected = torch.nn.functional.avg_pool2d(expected, 2, ceil_mode=True).flatten(1)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert neighbours.coarse(torch.zeros(2, 4096)).shape == (2, 4096)


def take_for_many(patch: pytest.MonkeyPatch) -> None:
    """The digits' train split is one that needs an index."""
    patch.setattr(distances, "MOST", 700)
    patch.setattr(neighbours, "EXACT", 1000)
    patch.setattr(reference, "AT_ONCE", 300)


@pytest.fixture(scope="module")
def indexed_digits(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reference whose train split has an index. Read only."""
    folder = tmp_path_factory.mktemp("large") / "reference"
    with pytest.MonkeyPatch.context() as patch:
        take_for_many(patch)
        reference.make_reference(SETTINGS, digits, folder, CPU)
    return folder


@pytest.fixture
def large(indexed_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it."""
    take_for_many(monkeypatch)
    return Path(shutil.copytree(indexed_digits, tmp_path / "reference"))


def test_features_are_made_again_to_compare_them(digits: Path, large: Path) -> None:
    train, (held_out, _) = open_split(digits, "train")[0], open_split(digits, "test")
    real = reference.load_features(large, "random_conv")
    every = real.network(torch.from_numpy(np.array(train))).features
    exact = memorisation.nearest(real.held_out.features, every, CPU)
    pixels, index = reference.load_pixels(large)

    def agrees(found: Nearest, exact: Nearest) -> bool:
        return bool(np.mean(found.row == exact.row) > 0.95)

    assert len(real.features) == 700
    assert agrees(real.nearest, exact)
    assert agrees(pixels, memorisation.nearest(held_out, train, CPU))
    space = real.space(train, 64, CPU)
    assert agrees(memorisation.nearest(every[:300], *space), memorisation.nearest(every[:300], every, CPU))
    assert not memorisation.nearest(every[:300], *space).distance.any()
    apart = memorisation.Space(every, CPU).apart(real.nearest.row)
    assert np.mean(np.isclose(real.nearest_apart, apart, rtol=1e-4)) > 0.95
    assert [path.name for path in index] == ["pixels-00000.faiss"]


@pytest.mark.parametrize("file", ["pixels-00000.faiss", "random_conv/features-00000.faiss"])
@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"IxPT" + bytes(99))])
def test_a_file_of_an_index_that_is_missing_or_damaged_is_named(
    digits: Path, large: Path, file: str, damage: Callable[[Path], object]
) -> None:
    damage(large / file)
    with pytest.raises(UserError, match=rf"{Path(file).name}: missing or changed since it was made; run `dvc repro -f"):
        evaluation.Real.open(digits, large, SETTINGS)
