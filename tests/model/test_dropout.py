"""Dropout in training: the masks of any two keys are independent, shifted or mirrored too. Layers, images and steps
have keys of their own, as tests/training/test_randomness.py shows."""

from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray

from ddpm.compute import noise
from tests.small import CPU

PLACES = 4096
LAGS = PLACES * 3 // 4  # beyond it too few places overlap
BOUND = 7.0  # standard deviations: one of 100 million correlations exceeds it once in 4,000 such tests
KEYS = noise.words(noise.streams(0, ["dropout/a", "dropout/b", "dropout/c"], CPU), torch.arange(8), 1)


def masks(keys) -> NDArray[np.float32]:
    """1 where a value is kept and -1 where it is dropped, (B, PLACES)."""
    return np.where(noise.keep_mask(keys, PLACES, 0.5).numpy(), 1, -1).astype(np.float32)


def correlations(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float64]:
    """(2 LAGS + 1,) the correlation of two masks at each lag, in standard deviations of independent ones."""
    size = 2 * PLACES
    sums = np.fft.irfft(np.fft.rfft(one, size) * np.fft.rfft(other, size).conj(), size)
    return np.roll(sums, LAGS)[: 2 * LAGS + 1] / np.sqrt(PLACES - np.abs(np.arange(-LAGS, LAGS + 1)))


def test_masks_of_two_keys_are_independent_at_every_lag():
    """Also of opposite keys: a shift that repeats the sign hashes x and ~x alike."""
    drawn = masks(torch.cat([KEYS.flatten(0, 1), ~KEYS[0]]))
    for one, other in combinations(drawn, 2):
        assert np.abs(correlations(one, other)).max() < BOUND
        assert np.abs(correlations(one, other[::-1])).max() < BOUND
    for one in drawn:
        assert np.abs(np.delete(correlations(one, one), LAGS)).max() < BOUND


def test_the_first_places_of_opposite_keys_are_unrelated():
    keys = torch.randint(-(2**31), 2**31, (20_000, 2), dtype=torch.int32, generator=torch.Generator().manual_seed(0))
    agreement = noise.keep_mask(keys, 2, 0.5) == noise.keep_mask(~keys, 2, 0.5)
    assert abs(float(agreement.double().mean()) - 0.5) < BOUND * 0.5 / agreement.numel() ** 0.5
