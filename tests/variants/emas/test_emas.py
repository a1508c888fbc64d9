"""Every EMA profile in the folder keeps the contract; the power profile has the published exponents."""

import pytest

from ddpm.base import variant
from ddpm.training.ema import EMAProfile


def profile(name: str, **fields: float) -> EMAProfile:
    return variant.build("emas", {"name": name, name: fields}, "train.ema")


@pytest.mark.parametrize("name", variant.names("emas"))
def test_decays_are_shares(name):
    assert all(0 <= profile(name).decay(step) < 1 for step in (1, 2, 10, 1000, 10**6))


@pytest.mark.parametrize(("sigma_rel", "gamma"), [(0.05, 16.97), (0.10, 6.94), (0.15, 3.56)])
def test_powers_exponents_are_edm2s(sigma_rel, gamma):
    power = profile("power", sigma_rel=sigma_rel)
    assert power.decay(100) == pytest.approx((1 - 1 / 100) ** (gamma + 1), rel=1e-4)
