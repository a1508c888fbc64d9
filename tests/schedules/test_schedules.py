"""Every schedule of the folder keeps the contract; those that diffusers has too agree with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from ddpm import variants
from ddpm.schedules import NoiseSchedule, Schedule


def schedule(name: str) -> Schedule:
    return variants.build("schedules", {"name": name}, "diffusion.schedule")


@pytest.mark.parametrize("name", variants.names("schedules"))
@settings(max_examples=20, deadline=None)
@given(T=st.integers(10, 4000))
def test_signal_falls_and_noise_grows_at_every_step(name: str, T: int) -> None:
    chain = schedule(name).noise_schedule(T)
    assert len(chain) == T
    assert chain.alpha_bar.dtype == np.float64
    assert np.all((chain.beta > 0) & (chain.beta <= 1))
    assert np.all(np.diff(chain.alpha_bar) < 0)
    assert np.all(np.diff(chain.log_snr) < 0)
    assert chain.alpha_bar[0] < 1
    assert chain.alpha_bar[-1] >= 0


@pytest.mark.parametrize("T", [100, 1000, 4000])
def test_cosine_equals_diffusers(T: int) -> None:
    peer = DDPMScheduler(T, beta_schedule="squaredcos_cap_v2")
    torch.testing.assert_close(torch.tensor(schedule("cosine").betas(T)), peer.betas.double(), rtol=1e-5, atol=1e-8)


def test_linear_equals_diffusers_at_the_papers_length() -> None:
    peer = DDPMScheduler(1000, beta_start=1e-4, beta_end=0.02, beta_schedule="linear")
    torch.testing.assert_close(torch.tensor(schedule("linear").betas(1000)), peer.betas.double(), rtol=1e-6, atol=1e-9)


@settings(max_examples=20, deadline=None)
@given(T=st.integers(10, 4000))
def test_cosine_is_the_published_formula(T: int) -> None:
    chain = schedule("cosine").noise_schedule(T)

    def f(t: float) -> float:
        return float(np.cos((t / T + 0.008) / 1.008 * np.pi / 2) ** 2)

    published = np.array([f(t) / f(0) for t in range(1, T + 1)])
    free = chain.beta < 0.999 - 1e-9  # beta is held there, so alpha_bar departs from the curve at the very end
    np.testing.assert_allclose(chain.alpha_bar[free], published[free], rtol=1e-9, atol=1e-12)


def test_the_constants_obey_the_papers_identities() -> None:
    chain = schedule("linear").noise_schedule(50)
    np.testing.assert_allclose(np.cumprod(chain.alpha), chain.alpha_bar, rtol=1e-12)
    np.testing.assert_allclose(chain.alpha + chain.beta, 1, rtol=1e-12)
    assert chain.beta_tilde[0] == 0
    assert np.all(chain.beta_tilde <= chain.beta)


def test_a_respaced_chain_has_the_same_signal_at_the_steps_it_visits() -> None:
    chain = schedule("cosine").noise_schedule(100)
    visited = np.array([1, 7, 40, 100])
    respaced = chain.respace(visited)
    np.testing.assert_array_equal(respaced.alpha_bar, chain.alpha_bar[visited - 1])
    np.testing.assert_array_equal(respaced.timesteps, visited)
    np.testing.assert_allclose(np.cumprod(respaced.alpha), respaced.alpha_bar, rtol=1e-12)


@pytest.mark.parametrize("betas", [[0.0, 0.1], [0.1, 1.5], [0.1, -0.2]])
def test_impossible_betas_are_refused(betas: list[float]) -> None:
    with pytest.raises(ValueError, match="every beta"):
        NoiseSchedule.from_betas(np.array(betas))
