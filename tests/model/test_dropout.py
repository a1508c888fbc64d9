"""Dropout in training: the masks of any two layers, images and steps are independent, shifted or mirrored too."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ddpm.model.layers import Dropout
from ddpm.training.trainer import Trainer
from tests.small import CPU, pictures, small

STEPS = (1, 2)
PLACES = 4096
LAGS = PLACES * 3 // 4  # beyond it too few places overlap
BOUND = 7.0  # standard deviations: one of 100 million correlations exceeds it once in 4,000 such tests


@pytest.fixture(scope="module")
def keyed() -> list:
    """Each dropout layer of a training, with the keys that it had at each of ``STEPS``."""
    model = small().model.model_dump()
    config = small(model={**model, "unet": {**model["unet"], "dropout": 0.5}})
    trainer = Trainer(config.training(), pictures(), CPU)
    layers = [module for module in trainer.student.network.modules() if isinstance(module, Dropout)]
    keys = [[] for _ in layers]
    for step in STEPS:
        trainer.step(step)
        for layer, seen in zip(layers, keys, strict=True):
            seen.append(layer.keys.clone())
    return list(zip(layers, keys, strict=True))


def masks(layer: Dropout, keys) -> NDArray[np.float32]:
    """1 where an image's value is kept and -1 where it is dropped, (B, PLACES)."""
    layer.keys = keys
    return np.where(layer(torch.ones(len(keys), PLACES, 1, 1)).flatten(1).numpy() > 0, 1, -1).astype(np.float32)


def correlations(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float64]:
    """(..., 2 LAGS + 1) the correlation of two masks at each lag, in standard deviations of independent ones."""
    size = 2 * PLACES
    spectrum = np.fft.rfft(one, size) * np.fft.rfft(other, size).conj()
    sums = np.roll(np.fft.irfft(spectrum, size), LAGS, axis=-1)[..., : 2 * LAGS + 1]
    overlap = PLACES - np.abs(np.arange(-LAGS, LAGS + 1))
    return sums / np.sqrt(overlap)


def test_masks_of_layers_images_and_steps_are_independent_at_every_lag(keyed):
    # (layers, steps, images, PLACES)
    drawn = np.stack([np.stack([masks(layer, keys) for keys in seen]) for layer, seen in keyed])
    assert drawn.shape[:3] == (len(keyed), len(STEPS), 8)
    assert len(keyed) > 4
    flat = drawn.reshape(-1, PLACES)
    for index, one in enumerate(flat):
        for others in (flat[index + 1 :], flat[index + 1 :, ::-1]):
            assert np.abs(correlations(one, others)).max(initial=0) < BOUND, index
        alone = correlations(one, one)
        alone[LAGS] = 0
        assert np.abs(alone).max() < BOUND


def test_opposite_keys_give_unrelated_masks(keyed):
    """The first places of many images, and all lags of a few: a shift that repeats the sign hashes x and ~x alike."""
    layer, _ = keyed[0]
    keys = torch.randint(-(2**31), 2**31, (20_000, *keyed[0][1][0].shape[1:]), dtype=torch.int32)
    firsts = []
    for each in (keys, ~keys):
        layer.keys = each
        firsts.append(layer(torch.ones(len(keys), 2, 1, 1)).flatten() > 0)
    agreement = float((firsts[0] == firsts[1]).double().mean())
    assert abs(agreement - 0.5) < BOUND * 0.5 / len(firsts[0]) ** 0.5
    for one, other in zip(masks(layer, keys[:8]), masks(layer, ~keys[:8]), strict=True):
        for turned in (other, other[::-1]):
            assert np.abs(correlations(one, turned)).max() < BOUND
