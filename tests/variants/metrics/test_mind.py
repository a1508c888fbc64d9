"""The distance along a line against sets of equal size, and of a shift against its length."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ddpm.scoring.features import Features
from ddpm.variants.metrics.mind import Monge


def measure(fake: np.ndarray, real: np.ndarray) -> float:
    images = (Features(torch.from_numpy(one).float(), torch.zeros(len(one), 0)) for one in (fake, real))
    return Monge().measure(*images, SimpleNamespace())["mind"]


def test_of_one_feature_it_is_the_distance_of_sorted_values_each_repeated_to_equal_numbers():
    generator = np.random.default_rng(0)
    fake, real = generator.normal(size=(7, 1)), generator.normal(size=(4, 1)) ** 2
    matched = [np.sort(one.astype(np.float32).ravel().repeat(times)) for one, times in ((fake, 4), (real, 7))]
    assert measure(fake, real) == pytest.approx(np.square(matched[0] - matched[1]).mean(), rel=1e-6)


def test_a_shift_counts_its_squared_length_and_a_scale_the_features_it_moves():
    features = np.random.default_rng(0).normal(size=(300, 6))
    shift = np.array([3.0, 0, 0, 0, -4, 0])
    assert measure(features + shift, features) == pytest.approx(25, rel=0.1)
    # along each direction x becomes 1.5 x: 0.25 of the second moment, over all features
    assert measure(1.5 * features, features) == pytest.approx(0.25 * np.square(features).sum(1).mean(), rel=0.05)
