"""Every EMA profile in the folder keeps the contract."""

import pytest

from ddpm.base import variant
from ddpm.training.ema import EMAProfile


def profile(name: str, **fields: float) -> EMAProfile:
    return variant.build("emas", {"name": name, name: fields}, "train.ema")


@pytest.mark.parametrize("name", variant.names("emas"))
def test_decays_are_shares(name):
    assert all(0 <= profile(name).decay(step) < 1 for step in (1, 2, 10, 1000, 10**6))
