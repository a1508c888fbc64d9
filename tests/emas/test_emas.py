"""Every EMA profile in the folder keeps the contract; the power profile has the published width."""

import numpy as np
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


@pytest.mark.parametrize("sigma_rel", [0.05, 0.1, 0.25])
def test_the_weights_that_power_gives_to_past_steps_have_its_width(sigma_rel):
    power, steps = profile("power", sigma_rel=sigma_rel), 4000
    decays = np.array([power.decay(step) for step in range(1, steps + 1)])
    weights = (1 - decays) * np.append(np.cumprod(decays[:0:-1])[::-1], 1.0)
    time = np.arange(1, steps + 1) / steps
    assert weights.sum() == pytest.approx(1)
    mean = (weights * time).sum()
    assert np.sqrt((weights * (time - mean) ** 2).sum()) == pytest.approx(sigma_rel, rel=5e-3)
