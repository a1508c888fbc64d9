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
from ddpm.training.order import WINDOW, in_blocks, permuted
from ddpm.training.trainer import Trainer
from tests.small import small

CPU = torch.device("cpu")
SEEDS = st.integers(0, 2**32)


@settings(max_examples=60)
@given(size=st.integers(1, 3000), seed=SEEDS, epoch=st.integers(0, 1000))
def test_each_image_comes_once(size: int, seed: int, epoch: int) -> None:
    assert sorted(permuted(np.arange(size), size, seed, epoch)) == list(range(size))


@settings(max_examples=30)
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


# --- by blocks


@settings(max_examples=80)
@given(size=st.integers(1, 3000), block=st.integers(1, 4000), seed=SEEDS, epoch=st.integers(0, 1000))
def test_each_image_comes_once_by_blocks(size: int, block: int, seed: int, epoch: int) -> None:
    assert sorted(in_blocks(np.arange(size), size, block, seed, epoch)) == list(range(size))


@settings(max_examples=30)
@given(size=st.integers(10**8, 2**50), block=st.integers(1, 10**5), seed=SEEDS, data=st.data())
def test_the_image_at_a_place_does_not_depend_on_the_other_places(
    size: int, block: int, seed: int, data: st.DataObject
) -> None:
    places = np.array(data.draw(st.lists(st.integers(0, size - 1), min_size=2, max_size=50, unique=True)))
    whole = in_blocks(places, size, block, seed, 3)
    assert len(set(whole.tolist())) == len(places)
    assert 0 <= whole.min() <= whole.max() < size
    np.testing.assert_array_equal(in_blocks(places[1:], size, block, seed, 3), whole[1:])


@settings(max_examples=60)
@given(size=st.integers(1000, 10**9), block=st.integers(20, 1000), seed=SEEDS, data=st.data())
def test_the_images_of_a_window_are_in_few_runs_of_the_file(
    size: int, block: int, seed: int, data: st.DataObject
) -> None:
    """WINDOW blocks, the images that fill none, and one block that goes on at the start of the file."""
    window = data.draw(st.integers(0, (size - 1) // (WINDOW * block)))
    places = np.arange(window * WINDOW * block, min((window + 1) * WINDOW * block, size))
    images = np.sort(in_blocks(places, size, block, seed, 5))
    runs = 1 + np.count_nonzero(np.diff(images) != 1)
    assert runs <= WINDOW + 2
    if len(places) > 200:  # and they are shuffled
        assert np.count_nonzero(np.diff(in_blocks(places, size, block, seed, 5)) == 1) < len(places) / 10


def test_blocks_and_where_they_begin_differ_from_epoch_to_epoch() -> None:
    firsts = [in_blocks(np.arange(WINDOW * 10), 10_007, 10, 1, epoch) for epoch in range(20)]
    assert len({tuple(np.sort(images)) for images in firsts}) == 20
    lasts = [in_blocks(np.arange(10_000, 10_007), 10_007, 10, seed, 0) for seed in range(20)]
    assert len({tuple(np.sort(images)) for images in lasts}) == 20
    assert len({tuple(in_blocks(np.arange(100), 100, 10, seed, 0)) for seed in range(20)}) == 20


def test_every_image_is_as_likely_at_every_place_by_blocks() -> None:
    orders = np.array([in_blocks(np.arange(7), 7, 2, seed, 0) for seed in range(700)])
    for place in range(7):
        assert chisquare(np.bincount(orders[:, place], minlength=7)).pvalue > 1e-6


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("part", [slice(None), slice(2, 5)])
def test_batches_by_blocks(resident: bool, part: slice) -> None:
    """The same on any number of ranks, from a file or memory, and as after a resume; classes go with their images."""
    images = np.arange(50, dtype=np.uint8)[:, None, None, None]
    made = Batches(images, 8, 3, False, CPU, part, resident, np.arange(50), block=4)
    whole = np.concatenate([in_blocks(np.arange(50), 50, 4, 3, epoch) for epoch in range(3)])
    for step in (1, 2, 7, 5, 6, 13):  # the seventh and the thirteenth are of two epochs
        expected = whole[(step - 1) * 8 : step * 8][part]
        assert ((made(step).flatten() + 1) * 127.5).round().long().tolist() == expected.tolist()
        labels = made.labels(step)
        assert labels is not None
        assert labels.tolist() == expected.tolist()


def test_the_order_is_by_blocks_only_if_params_say_so() -> None:
    """And a model file without the key has the bytes that it had before there was one."""
    images = np.zeros((30, 1, 8, 8), np.uint8)
    whole, blocks = (small(train=train).training() for train in ({}, {"block_shuffle": 4}))
    assert "block_shuffle" not in whole.model_dump(mode="json")["train"]
    assert blocks.model_dump(mode="json")["train"]["block_shuffle"] == 4
    first, second = (Trainer(config, images, CPU).batches._indices(2).tolist() for config in (whole, blocks))
    assert first == Batches(images, 8, 0, False, CPU)._indices(2).tolist()
    assert second == in_blocks(np.arange(8, 16), 30, 4, 0, 0).tolist()
