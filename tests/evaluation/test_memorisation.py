"""Copies of train images are found, and new images are not called copies."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.spatial.distance import cdist

from ddpm.referee import metrics
from ddpm.scoring import distances, memorisation
from ddpm.scoring.memorisation import Nearest

CPU = torch.device("cpu")


def draw(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 1, 6, 6), dtype=np.uint8)


def slow(queries: np.ndarray, train: np.ndarray) -> np.ndarray:
    """All distances at once, (N, M)."""
    difference = queries[:, None].astype(float) - train[None].astype(float)
    return np.sqrt((difference**2).reshape(len(queries), len(train), -1).sum(-1))


IMAGES = st.integers(1, 12).flatmap(lambda n: arrays.arrays(np.uint8, (n, 2, 3)))


@settings(max_examples=30)
@given(IMAGES, IMAGES, st.integers(1, 5))
def test_the_nearest_is_the_nearest_however_many_rows_are_held_at_once(queries, train, rows):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memorisation, "ROWS", rows)
        found = memorisation.nearest(queries, train, CPU)
    every = slow(queries, train)
    np.testing.assert_allclose(found.distance, every.min(1), atol=1e-6)
    np.testing.assert_allclose(every[np.arange(len(queries)), found.row], every.min(1), atol=1e-6)
    around = np.sort(every, axis=1)[:, : memorisation.NEIGHBOURS].mean(1)
    np.testing.assert_allclose(found.relative * around, every.min(1), atol=0.5)


def measure(samples: np.ndarray, train: np.ndarray, held_out: np.ndarray) -> dict[str, float]:
    real = memorisation.nearest(held_out, train, CPU)
    return memorisation.closeness(memorisation.nearest(samples, train, CPU), real, real.distance > 0)


def close(samples: np.ndarray, train: np.ndarray, held_out: np.ndarray):
    return read(measure(samples, train, held_out))


def read(found: dict[str, float]):
    """The closeness as read back from metrics/evaluate.json."""
    (one,) = metrics.closeness({f"memorisation.pixels.{name}": value for name, value in found.items()})
    return one


def test_planted_copies_are_found_and_new_images_are_not():
    train, held_out = draw(300, 0), draw(100, 1)
    half = np.concatenate([train[:50], draw(50, 2)])
    copied, new, mixed = (close(samples, train, held_out) for samples in (train[40:140], draw(400, 3), half))
    assert (copied.share, copied.copies) == (1, True)
    assert measure(train[40:140], train, held_out)["ratio"] == 0
    assert measure(draw(400, 3), train, held_out)["ratio"] == pytest.approx(1, abs=0.02)
    assert new.share == pytest.approx(0.05, abs=0.04)
    assert new.expected == pytest.approx(0.05, abs=0.001)
    assert not new.copies
    assert mixed.share == pytest.approx(0.525, abs=0.03)
    assert mixed.copies
    assert not close(held_out, train, held_out).copies


TRIALS = 600


def simulated(held_out: int, samples: int, nearer: float) -> list:
    """TRIALS models with samples below a relative distance ``nearer`` times as often as held-out images."""
    generator = np.random.default_rng(5)

    def at(relative: np.ndarray) -> Nearest:
        return Nearest(relative, np.zeros(len(relative), dtype=np.int64), relative)

    found = []
    for _ in range(TRIALS):
        real = at(generator.uniform(0, 1, held_out))
        fake = at(generator.uniform(0, 1 / nearer, samples))
        found.append(read(memorisation.closeness(fake, real, real.distance > 0)))
    return found


@pytest.mark.parametrize(("held_out", "samples"), [(359, 1437), (1, 50)])
def test_honest_models_are_called_copiers_in_less_than_one_run_in_a_hundred(held_out, samples):
    found = simulated(held_out, samples, nearer=1)
    assert np.mean([one.copies for one in found]) < 0.01 + 3 * (0.01 / TRIALS) ** 0.5
    error = np.std([one.share for one in found]) / TRIALS**0.5
    assert np.mean([one.share for one in found]) == pytest.approx(found[0].expected, abs=4 * error)


def test_authentic_samples_are_further_from_a_train_image_than_its_neighbours():
    generator = np.random.default_rng(0)
    train = torch.from_numpy(generator.normal(size=(60, 3))).float()
    samples = torch.cat([train[:20], train[20:40] + 1e-3, 3 * torch.randn(10, 3, generator=torch.Generator())])
    found = memorisation.nearest(samples, train, CPU)
    expected = []
    for sample in samples.double().numpy():
        to_train = np.linalg.norm(train.double().numpy() - sample, axis=1)
        between = np.linalg.norm(train.double().numpy() - train[to_train.argmin()].double().numpy(), axis=1)
        expected.append(to_train.min() > np.partition(between, 1)[1])
    apart = distances.neighbours(train, 1)[:, 0].double().sqrt().numpy()[found.row]
    assert memorisation.authentic(found, apart) == pytest.approx(np.mean(expected))
    assert not any(expected[:40])


@given(n=st.integers(1, 30), m=st.integers(1, 30), offset=st.floats(-1000, 1000))
@settings(max_examples=30)
def test_distances_are_those_of_float64(n, m, offset):
    generator = np.random.default_rng(0)
    x, y = (torch.from_numpy(generator.normal(offset, size=(count, 3))).float() for count in (n, m))
    found = torch.cat([part for _, part in distances.square_distances(x, y)])
    np.testing.assert_allclose(found, cdist(x, y, "sqeuclidean"), rtol=1e-3, atol=1e-3)
    assert (found >= 0).all()


def test_a_part_is_chosen_by_row_and_a_smaller_one_lies_within_a_larger():
    features = torch.arange(1000.0)[:, None]
    small, large = (set(distances.part(features, count).flatten().tolist()) for count in (50, 300))
    assert len(small) == 50
    assert small < large
    assert np.mean(list(large)) == pytest.approx(500, abs=50)
    assert distances.part(features, 1000) is features
