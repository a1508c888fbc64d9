"""Distances of features are those of float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from ddpm.scoring import distances

Array = NDArray[np.float64]


def normal(seed: int, count: int, dimensions: int, mean: float = 0.0, sd: float = 1.0) -> Array:
    return np.random.default_rng(seed).normal(mean, sd, (count, dimensions))


@given(n=st.integers(1, 30), m=st.integers(1, 30), offset=st.floats(-1000, 1000))
@settings(max_examples=30)
def test_distances_are_those_of_float64(n, m, offset):
    x, y = (torch.from_numpy(normal(seed, count, 3) + offset).float() for seed, count in ((0, n), (1, m)))
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
