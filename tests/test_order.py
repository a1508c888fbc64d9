"""The order of images: a permutation of each epoch, whatever the number of images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from ddpm.compute.noise import stream_seed
from ddpm.training import batches
from ddpm.training.batches import Batches
from ddpm.training.order import permuted

CPU = torch.device("cpu")
SEEDS = st.integers(0, 2**32)


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 3000), seed=SEEDS, epoch=st.integers(0, 1000))
def test_each_image_comes_once(size: int, seed: int, epoch: int) -> None:
    assert sorted(permuted(np.arange(size), size, seed, epoch)) == list(range(size))


@settings(max_examples=30, deadline=None)
@given(size=st.integers(10**8, 2**62), seed=SEEDS, data=st.data())
def test_any_part_of_a_large_epoch_is_a_part_of_the_same_order(size: int, seed: int, data: st.DataObject) -> None:
    places = np.array(data.draw(st.lists(st.integers(0, size - 1), min_size=2, max_size=50, unique=True)))
    whole = permuted(places, size, seed, 3)
    assert len(set(whole.tolist())) == len(places)
    assert 0 <= whole.min() <= whole.max() < size
    np.testing.assert_array_equal(permuted(places[1:], size, seed, 3), whole[1:])


def test_the_order_depends_on_seed_and_epoch() -> None:
    orders = {tuple(permuted(np.arange(100), 100, seed, epoch)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


def test_every_image_is_as_likely_at_every_place() -> None:
    size = 6
    orders = np.array([permuted(np.arange(size), size, seed, 0) for seed in range(3000)])
    for place in range(size):
        assert chisquare(np.bincount(orders[:, place], minlength=size)).pvalue > 1e-6
    pairs = orders[:, 0] * size + orders[:, 1]  # neighbours too
    assert chisquare(np.bincount(pairs)[np.bincount(pairs) > 0]).pvalue > 1e-6
    assert len(set(pairs.tolist())) == size * (size - 1)


def test_batches_of_too_many_images_to_hold_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.arange(50, dtype=np.uint8)[:, None, None, None]
    monkeypatch.setattr(batches, "HELD", 49)
    made = Batches(images, 8, 3, False, CPU)
    seen = torch.cat([made._indices(step) for step in range(1, 26)])
    for epoch in range(4):
        assert seen[epoch * 50 : (epoch + 1) * 50].tolist() == permuted(np.arange(50), 50, 3, epoch).tolist()


@pytest.mark.parametrize("size", [1, 2, 1437, 60_000])
def test_an_order_in_half_of_the_memory_is_the_one_that_it_was(size: int) -> None:
    made = Batches(np.zeros((size, 1, 1, 1), np.uint8), size, 5, False, CPU)
    before = torch.randperm(size, generator=torch.Generator().manual_seed(stream_seed(5, "order", 2)))
    torch.testing.assert_close(made._indices(3), before, rtol=0, atol=0)
