"""Every parameterization of the folder says the same of x_0, epsilon and the reverse mean."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDPMScheduler
from torch import Tensor

from ddpm import diffusion, variants
from ddpm.diffusion import Chain, Coefficients
from ddpm.parameterizations import Parameterization

NAMES = variants.names("parameterizations")
T = 1000
STEPS = torch.tensor([1, 2, 3, 100, 500, 900, 999, 1000])


def parameterization(name: str) -> Parameterization:
    return variants.build("parameterizations", {"name": name}, "diffusion.parameterization")


def constants(schedule: str = "cosine", **fields: object) -> Coefficients:
    chosen = variants.build("schedules", {"name": schedule, schedule: fields}, "diffusion.schedule")
    return Chain(chosen.noise_schedule(T), dtype=torch.float64).at(STEPS)


def gaussian(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(STEPS), 3, 4, 4, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize("name", NAMES)
def test_the_exact_answer_for_gaussian_data_means_the_same_in_each(name: str, schedule: str) -> None:
    """For data N(m, s^2) E[x_0 | x_t] is linear in x_t; targets are linear, so theirs is the network's best output."""
    at, mean, deviation = constants(schedule), 0.3, 0.5
    x_t = at.signal * mean + gaussian(0) * (at.signal**2 * deviation**2 + at.sigma**2).sqrt()
    gain = at.signal * deviation**2 / (at.signal**2 * deviation**2 + at.sigma**2)
    x_0 = mean + gain * (x_t - at.signal * mean)
    epsilon = (x_t - at.signal * x_0) / at.sigma
    chosen = parameterization(name)
    told = chosen.predict(chosen.target(x_0, epsilon, at), x_t, at)
    torch.testing.assert_close(told.x_0, x_0, rtol=0, atol=1e-10)
    torch.testing.assert_close(told.epsilon, epsilon, rtol=0, atol=1e-10)
    reverse = diffusion.posterior_mean(told.x_0, x_t, at)
    torch.testing.assert_close(reverse, diffusion.posterior_mean(x_0, x_t, at), rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_x_0_scale_converts_the_squared_error(name: str) -> None:
    at, chosen = constants(), parameterization(name)
    x_t, output, error = gaussian(1), gaussian(2), gaussian(3)
    moved = chosen.predict(output + error, x_t, at).x_0 - chosen.predict(output, x_t, at).x_0
    expected = chosen.x_0_scale(at) * error.square()
    torch.testing.assert_close(moved.square(), expected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_without_signal_x_0_is_finite_unless_the_parameterization_says_so(name: str) -> None:
    at, chosen = constants("linear", zero_terminal_snr=True), parameterization(name)
    x_0 = chosen.predict(gaussian(1), gaussian(2), at).x_0
    assert bool(x_0[-1].isfinite().all()) == (not chosen.divides_by_signal)
    assert x_0[:-1].isfinite().all()


def test_v_target_equals_diffusers() -> None:
    peer = DDPMScheduler(T, beta_schedule="squaredcos_cap_v2")
    at, x_0, epsilon = constants(), gaussian(0), gaussian(1)
    peer.alphas_cumprod = torch.zeros(T, dtype=torch.float64)
    peer.alphas_cumprod[STEPS - 1] = at.alpha_bar.flatten()
    ours = parameterization("v").target(x_0, epsilon, at)
    torch.testing.assert_close(ours, peer.get_velocity(x_0, epsilon, STEPS - 1), rtol=1e-10, atol=1e-10)


def test_the_mean_of_the_first_step_is_the_image() -> None:
    at, x_0 = constants(), gaussian(0)
    torch.testing.assert_close(parameterization("mean").target(x_0, gaussian(1), at)[0], x_0[0])
