"""The principal components of the train images."""

import numpy as np

from ddpm.scoring.networks.components_network import fit


def test_another_machine_s_rounding_errors_do_not_change_the_bytes():
    """In another order the sums round differently; a frame of one level gives entries of 0."""
    images = np.zeros((40, 1, 8, 8), np.uint8)
    images[:, :, 2:6, 2:6] = np.random.default_rng(0).integers(0, 256, (40, 1, 4, 4))
    fits = [
        fit(images[order], 32)
        for order in (slice(None), slice(None, None, -1), np.random.default_rng(1).permutation(40))
    ]
    for name in ("mean", "basis"):
        assert len({each[name].numpy().tobytes() for each in fits}) == 1, name
    assert not np.signbit(fits[0]["basis"].numpy()[fits[0]["basis"].numpy() == 0]).any()
