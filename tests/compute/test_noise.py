"""Random numbers are functions of (seed, purpose, index, step)."""

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from ddpm.compute import noise
from tests.small import CPU

# Known answers of Philox4x32-10, published with Random123: counter, key, output
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0),
     (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
]  # fmt: skip


@pytest.mark.parametrize(("counter", "key", "output"), KNOWN)
def test_philox_gives_the_published_known_answers(counter, key, output):
    words = noise.philox(tuple(torch.tensor([word]) for word in counter), key)
    assert tuple(int(word) for word in words) == output


@settings(max_examples=25)
@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=9), st.integers(0, 4000), st.integers(1, 33))
def test_an_images_noise_does_not_depend_on_its_batch(indices, step, size):
    together = noise.gaussian(3, "reverse", torch.tensor(indices), step, (size,))
    alone = torch.cat([noise.gaussian(3, "reverse", torch.tensor([index]), step, (size,)) for index in indices])
    assert torch.equal(together, alone)


@pytest.mark.parametrize("step", [1, 7, 2**32 - 2])
def test_draws_of_several_steps_at_once_have_the_bits_of_each(step):
    index, streams, steps = torch.tensor([0, 5, 2**40]), noise.streams(3, ["a", "b"], CPU), range(step, step + 4)
    for draw in (
        lambda at: noise.gaussian(3, "train", index, at, (3, 5)),
        lambda at: noise.uniform(3, "t", index, at),
        lambda at: noise.words(streams, index, at),
    ):
        assert torch.equal(draw(steps), torch.stack([draw(each) for each in steps]))


def test_noise_is_standard_normal():
    draws = noise.gaussian(0, "train", torch.arange(500), 1, (1, 20, 20)).flatten()
    assert stats.kstest(draws.numpy(), "norm").pvalue > 1e-3
    assert draws.abs().max() > 4


def test_uniform_draws_are_uniform_and_below_one():
    draws = noise.uniform(0, "timestep", torch.arange(50_000), 7)
    assert draws.min() >= 0
    assert draws.max() < 1
    assert stats.kstest(draws.numpy(), "uniform").pvalue > 1e-3


OTHERS = [(1, "a", 0, 0), (0, "b", 0, 0), (0, "a", 1, 0), (0, "a", 0, 1), (0, "a", 2**32, 0)]


@pytest.mark.parametrize("other", OTHERS, ids=str)
def test_each_argument_gives_other_noise(other):
    seed, purpose, index, step = other
    first = noise.gaussian(0, "a", torch.tensor([0]), 0, (4000,))
    second = noise.gaussian(seed, purpose, torch.tensor([index]), step, (4000,))
    assert stats.pearsonr(first[0].numpy(), second[0].numpy()).pvalue > 1e-3
    assert not torch.equal(first, second)


def mask(rows: int, size: int, p: float, offset: int = 0) -> np.ndarray:
    keys = noise.words(noise.streams(3, ["dropout"], CPU), torch.arange(rows) + offset, 5)
    return noise.keep_mask(keys[0], size, p).numpy()


@pytest.mark.parametrize("p", [0.05, 0.1, 0.5, 0.9])
def test_a_mask_drops_the_share_that_is_asked_for(p):
    dropped = 1 - mask(64, 4096, p).mean()
    assert abs(dropped - p) < 5 * math.sqrt(p * (1 - p) / (64 * 4096))


def test_a_mask_is_a_function_of_the_images_key_alone():
    whole = mask(8, 101, 0.3)
    np.testing.assert_array_equal(mask(3, 101, 0.3, offset=5), whole[5:])
    np.testing.assert_array_equal(mask(8, 60, 0.3), whole[:, :60])


PLACES = 4096
LAGS = PLACES * 3 // 4  # beyond it too few places overlap
BOUND = 7.0  # standard deviations: one of 100 million correlations exceeds it once in 4,000 such tests
KEYS = noise.words(noise.streams(0, ["dropout/a", "dropout/b", "dropout/c"], CPU), torch.arange(8), 1)


def signs(keys) -> NDArray[np.float32]:
    """1 where a value is kept and -1 where it is dropped, (B, PLACES)."""
    return np.where(noise.keep_mask(keys, PLACES, 0.5).numpy(), 1, -1).astype(np.float32)


def correlations(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float64]:
    """(2 LAGS + 1,) the correlation of two masks at each lag, in standard deviations of independent ones."""
    size = 2 * PLACES
    sums = np.fft.irfft(np.fft.rfft(one, size) * np.fft.rfft(other, size).conj(), size)
    return np.roll(sums, LAGS)[: 2 * LAGS + 1] / np.sqrt(PLACES - np.abs(np.arange(-LAGS, LAGS + 1)))


def test_masks_of_two_keys_are_independent_at_every_lag():
    """In training each layer, image and step has a key of its own. Also of opposite keys: a shift that repeats the sign
    hashes x and ~x alike."""
    drawn = signs(torch.cat([KEYS.flatten(0, 1), ~KEYS[0]]))
    for one, other in combinations(drawn, 2):
        assert np.abs(correlations(one, other)).max() < BOUND
        assert np.abs(correlations(one, other[::-1])).max() < BOUND
    for one in drawn:
        assert np.abs(np.delete(correlations(one, one), LAGS)).max() < BOUND


def test_the_first_places_of_opposite_keys_are_unrelated():
    keys = torch.randint(-(2**31), 2**31, (20_000, 2), dtype=torch.int32, generator=torch.Generator().manual_seed(0))
    agreement = noise.keep_mask(keys, 2, 0.5) == noise.keep_mask(~keys, 2, 0.5)
    assert abs(float(agreement.double().mean()) - 0.5) < BOUND * 0.5 / agreement.numel() ** 0.5


def test_a_mask_is_the_published_hash_of_each_place_changed_by_the_key():
    """Of keys whose counters are a few places apart, too, which the second word alone keeps apart."""
    low, golden = 2**32 - 1, 0x9E3779B9
    keys = np.random.default_rng(0).integers(-(2**31), 2**31, (40, 2))
    keys[20:, 0] = (keys[:20, 0] + 8 * golden + 2**31) % 2**32 - 2**31
    masks = noise.keep_mask(torch.tensor(keys, dtype=torch.int32), 40, 0.3).tolist()
    for (start, twist), row in zip(keys.tolist(), masks, strict=True):
        x = [(start + place * golden) & low for place in range(20)]
        x = [(one ^ one >> 16) * 0x21F0AAAD & low ^ twist & low for one in x]
        x = [(one ^ one >> 15) * 0x735A2D97 & low for one in x]
        halves = np.array([one ^ one >> 15 for one in x], dtype=np.uint32).view(np.int16)
        assert row == (halves >= round(0.3 * 2**16) - 2**15).tolist()
    for one, other in zip(*np.split(signs(torch.tensor(keys, dtype=torch.int32)), 2), strict=True):
        assert np.abs(correlations(one, other)).max() < BOUND
