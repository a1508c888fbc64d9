"""Copies of train images are found; new images are not called copies."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ddpm import memorisation

CPU = torch.device("cpu")


def draw(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 1, 6, 6), dtype=np.uint8)


def slow(queries: np.ndarray, train: np.ndarray) -> np.ndarray:
    """All distances at once, (N, M)."""
    difference = queries[:, None].astype(float) - train[None].astype(float)
    return np.sqrt((difference**2).reshape(len(queries), len(train), -1).sum(-1))


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 12).flatmap(lambda n: arrays.arrays(np.uint8, (n, 2, 3))),
    st.integers(1, 12).flatmap(lambda n: arrays.arrays(np.uint8, (n, 2, 3))),
    st.integers(1, 5),
)
def test_the_nearest_is_the_nearest_however_many_rows_are_held_at_once(
    queries: np.ndarray, train: np.ndarray, rows: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memorisation, "ROWS", rows)
        found = memorisation.nearest(queries, train, CPU)

    every = slow(queries, train)
    np.testing.assert_allclose(found.distance, every.min(1), atol=1e-6)
    np.testing.assert_allclose(every[np.arange(len(queries)), found.row], every.min(1), atol=1e-6)


def test_tensors_and_arrays_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    queries, train = draw(20, 0), draw(30, 1)
    of_arrays = memorisation.nearest(queries, train, CPU)
    of_tensors = memorisation.nearest(torch.from_numpy(queries), torch.from_numpy(train), CPU)
    np.testing.assert_array_equal(of_arrays.row, of_tensors.row)
    np.testing.assert_array_equal(of_arrays.distance, of_tensors.distance)


def close(samples: np.ndarray, train: np.ndarray, held_out: np.ndarray) -> dict[str, float]:
    real = memorisation.nearest(held_out, train, CPU)
    return memorisation.closeness(memorisation.nearest(samples, train, CPU), real, real.distance > 0)


def test_planted_copies_are_found_and_new_images_are_not() -> None:
    train, held_out = draw(300, 0), draw(100, 1)
    half = np.concatenate([train[:50], draw(50, 2)])

    copied, new, mixed = (close(samples, train, held_out) for samples in (train[40:140], draw(400, 3), half))

    assert copied == {"share": 1, "ratio": 0}
    assert new["share"] < 0.03
    assert new["ratio"] == pytest.approx(1, abs=0.02)
    assert mixed["share"] == pytest.approx(0.5, abs=0.02)
    assert close(held_out, train, held_out) == {"share": 0, "ratio": 1}


def test_copies_with_a_little_noise_are_found() -> None:
    train, held_out = draw(300, 0), draw(100, 1)
    noised = np.clip(train[:100] + np.random.default_rng(4).normal(0, 5, (100, 1, 6, 6)), 0, 255).astype(np.uint8)

    assert close(noised, train, held_out)["share"] == 1


def test_test_images_that_are_train_images_hide_no_copy() -> None:
    train = draw(300, 0)
    held_out = np.concatenate([draw(100, 1), train[:1]])

    assert close(train[40:140], train, held_out)["share"] == 1


def test_nothing_is_said_where_every_test_image_is_a_train_image() -> None:
    train = draw(50, 0)
    assert close(draw(10, 1), train, train[:20]) == {}
