"""The sets of samples: where they are, and the noise they are drawn from."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddpm.base.errors import UserError
from ddpm.sampling import samples

seeds = st.integers(0, 2**63 - 1)


@given(seeds, seeds, seeds, seeds)
def test_each_set_of_each_training_seed_has_noise_of_its_own(a, b, s, t):
    assert 0 <= samples.noise_seed(a, s) < 2**63
    assert (samples.noise_seed(a, s) == samples.noise_seed(b, t)) == ((a, s) == (b, t))


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((9, 1, 16, 16), dtype=np.float32),
        np.zeros((9, 16, 16), dtype=np.uint8),
        np.zeros((0, 1, 16, 16), dtype=np.uint8),
        np.array([{"a": "pickle"}], dtype=object),
    ],
    ids=["float", "three axes", "none", "pickle"],
)
def test_what_is_no_set_of_images_is_refused(array, tmp_path):
    np.save(tmp_path / "samples.npy", array, allow_pickle=True)

    with pytest.raises(UserError, match=r"samples\.npy: "):
        samples.read_samples(tmp_path / "samples.npy")
