"""Every schedule in the folder keeps the contract; those that diffusers also has agree with it."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from diffusers import EDMEulerScheduler
from diffusers.schedulers.scheduling_ddpm import rescale_zero_terminal_snr
from hypothesis import given, settings
from hypothesis import strategies as st

from ddpm.base import variant
from ddpm.diffusion.schedule import NoiseSchedule
from tests.small import build

NAMES = variant.names("schedules")


schedule = partial(build, "schedules")


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=15)
@given(T=st.integers(10, 4000), shift=st.floats(-6, 6))
def test_signal_falls_a_shift_adds_to_log_snr_and_zero_terminal_snr_ends_without_signal(name, T, shift):
    fields = {}, {"log_snr_shift": shift}, {"log_snr_shift": shift, "zero_terminal_snr": True}
    plain, shifted, ended = (schedule(name, **each).noise_schedule(T) for each in fields)
    assert len(plain) == T
    assert np.all((plain.beta > 0) & (plain.beta <= 1))
    assert 0 < plain.alpha_bar[-1] < plain.alpha_bar[0] < 1
    np.testing.assert_allclose(shifted.log_snr, plain.log_snr + shift, rtol=0, atol=1e-12)
    assert (ended.alpha_bar[-1], ended.beta[-1]) == (0, 1)
    assert all(np.all(np.diff(chain.log_snr) < 0) for chain in (plain, ended))
    assert np.all(np.isfinite(ended.beta_tilde))
    assert ended.alpha_bar[0] == pytest.approx(shifted.alpha_bar[0], rel=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_zero_terminal_snr_equals_diffusers(name):
    ours = schedule(name, zero_terminal_snr=True).noise_schedule(1000)
    betas = rescale_zero_terminal_snr(torch.from_numpy(schedule(name).noise_schedule(1000).beta))
    np.testing.assert_allclose(ours.alpha_bar, np.cumprod(1 - betas.numpy()), rtol=0, atol=1e-12)


def sigma(x: float) -> float:
    return 1 / (1 + math.exp(-x))


# name -> alpha_bar as a function of t / T, written independently of the code
CURVES = {
    "cosine": lambda u: math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2 / math.cos(0.008 / 1.008 * math.pi / 2) ** 2,
    "sigmoid": lambda u: (sigma(3.0) - sigma(6 * u - 3)) / (sigma(3.0) - sigma(-3.0)),
    "rectified_flow": lambda u: (1 - u) ** 2 / ((1 - u) ** 2 + u**2),
}


@pytest.mark.parametrize("name", CURVES)
@settings(max_examples=20)
@given(T=st.integers(10, 4000))
def test_alpha_bar_is_the_published_curve(name, T):
    chain = schedule(name).noise_schedule(T)
    published = np.array([CURVES[name](t / T) for t in range(1, T + 1)])
    free = chain.beta < 0.999 - 1e-9  # at the very end beta is capped, and alpha_bar departs from the curve
    assert free[:-2].all()
    np.testing.assert_allclose(chain.alpha_bar[free], published[free], rtol=0, atol=1e-12)
    log_snr = np.log(published[free]) - np.log1p(-published[free])
    np.testing.assert_allclose(chain.log_snr[free], log_snr, rtol=1e-9, atol=1e-9)  # 1 - published has lost its digits


def test_linears_betas_are_the_published_ones():
    published = np.array([1e-4 + (0.02 - 1e-4) * (t - 1) / 999 for t in range(1, 1001)])
    chain = schedule("linear").noise_schedule(1000)
    assert chain.log_snr[0] == pytest.approx(math.log1p(-1e-4) - math.log(1e-4), rel=1e-14)  # of alpha_bar near 1
    np.testing.assert_allclose(chain.beta, published, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(chain.alpha_bar, np.cumprod(1 - published), rtol=0, atol=1e-12)


@pytest.mark.parametrize("T", [2, 18, 1000])
def test_karras_visits_edms_levels(T):
    """EDM's float32 levels, and the ends themselves: EDM's p(sigma), read as quantiles, would end at 16."""
    chain = schedule("karras").noise_schedule(T)
    peer = EDMEulerScheduler()
    peer.set_timesteps(T)
    np.testing.assert_allclose(np.exp(-chain.log_snr[::-1] / 2), peer.sigmas[:-1], rtol=2e-5)
    np.testing.assert_allclose(np.exp(-chain.log_snr[[0, -1]] / 2), [0.002, 80], rtol=1e-9)


@pytest.mark.parametrize("betas", [[0.0, 0.1], [0.1, 1.5], [0.1, -0.2], [0.5, 0.5, 1e-20, 0.5]])
def test_impossible_betas_are_refused(betas):
    """The last one is too small to change alpha_bar."""
    with pytest.raises(ValueError, match="beta"):
        NoiseSchedule.from_betas(np.array(betas))
