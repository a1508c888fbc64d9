"""Every parameterization in the folder gives the same x_0, epsilon and reverse mean."""

from functools import partial

import pytest
import torch

from ddpm.base import variant
from ddpm.diffusion.chain import Chain
from ddpm.diffusion.coefficients import Coefficients, q_sample
from tests.small import build

NAMES = variant.names("parameterizations")
T = 1000
STEPS = torch.tensor([1, 2, 3, 100, 500, 900, 999, 1000])


parameterization = partial(build, "parameterizations")


def constants(schedule: str = "cosine", steps=STEPS, **fields: object) -> Coefficients:
    return Chain(build("schedules", schedule, **fields).noise_schedule(T), dtype=torch.float64).at(steps)


def gaussian(seed: int):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(STEPS), 3, 4, 4, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("schedule", ["cosine", "rectified_flow", "karras"])
@pytest.mark.parametrize("name", NAMES)
def test_an_output_that_is_the_target_means_the_x_0_and_epsilon_of_x_t(name, schedule):
    """There and back costs a few roundings, which some targets magnify where there is little signal or a short step."""
    at, chosen, (x_0, epsilon) = constants(schedule), parameterization(name), (gaussian(0), gaussian(1))
    x_t = q_sample(x_0, epsilon, at)
    found = chosen.predict(chosen.target(x_0, epsilon, at), x_t, at)
    rounding = 3 * torch.finfo(torch.float64).eps * float(torch.stack([x_0, epsilon]).abs().max())
    allowed = rounding if name in {"edm", "flow", "v"} else 1e-7
    torch.testing.assert_close(found.x_0, x_0, rtol=0, atol=allowed)
    torch.testing.assert_close(found.epsilon, epsilon, rtol=0, atol=allowed)


@pytest.mark.parametrize("name", NAMES)
def test_x_0_scale_converts_the_squared_error(name):
    at, chosen = constants(), parameterization(name)
    x_t, output, error = gaussian(1), gaussian(2), gaussian(3)
    moved = chosen.predict(output + error, x_t, at).x_0 - chosen.predict(output, x_t, at).x_0
    expected = chosen.x_0_scale(at) * error.square()
    torch.testing.assert_close(moved.square(), expected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_without_signal_x_0_is_finite_unless_the_parameterization_says_so(name):
    at, chosen, x_0, x_t = constants("linear", zero_terminal_snr=True), parameterization(name), gaussian(0), gaussian(1)
    assert at.signal[-1] == 0
    found = chosen.predict(chosen.target(x_0, x_t, at), q_sample(x_0, x_t, at), at)
    if chosen.divides_by_signal:
        assert not found.x_0[-1].isfinite().any()
    else:
        torch.testing.assert_close(found.x_0, x_0, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(found.epsilon[-1], x_t[-1])


@pytest.mark.parametrize("schedule", variant.names("schedules"))
@pytest.mark.parametrize("name", NAMES)
def test_targets_are_of_the_same_size_at_every_t(name, schedule):
    """For x_0 of N(0, s^2), a linear target's variance is the sum of its squares at x_0 = s and at epsilon = 1. It is
    1, except for the flow, the difference of two independent N(0, 1), and for the mean of x_{t-1}, whose variance of 1
    is the mean's and the posterior's.
    """
    at, chosen = constants(schedule, torch.arange(1, T + 1)), parameterization(name)
    one, zero = torch.ones_like(at.signal), torch.zeros_like(at.signal)
    s = dict(chosen).get("sigma_data", 1.0)
    of_x_0, of_epsilon = (chosen.target(*pair, at) for pair in ((one * s, zero), (zero, one)))
    expected = {"flow": 2 * one, "mean": one - at.log_beta_tilde.exp() * (at.sigma_prev > 0)}.get(name, one)
    torch.testing.assert_close(of_x_0.square() + of_epsilon.square(), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("schedule", variant.names("schedules"))
def test_the_mean_is_the_image_at_the_first_step_and_equation_11s_elsewhere(schedule):
    """Equation 11 has epsilon in place of x_0. In float32 what is lost is the rounding of the output, magnified as
    ``x_0_scale`` says."""
    at, x_0, epsilon = constants(schedule, STEPS[:-1]), gaussian(0)[:-1], gaussian(1)[:-1]  # of T, little is left
    mean, x_t = parameterization("mean"), q_sample(x_0, epsilon, at)
    beta = at.log_beta.exp()
    eleven = (x_t - beta / at.sigma * epsilon) / (1 - beta).sqrt()
    torch.testing.assert_close(mean.target(x_0, epsilon, at), eleven, rtol=0, atol=1e-9)
    torch.testing.assert_close(mean.target(x_0, epsilon, at)[0], x_0[0], rtol=1e-12, atol=0)
    single = Coefficients(*(value.float() for value in at))
    found = mean.predict(mean.target(x_0, epsilon, at).float(), x_t.float(), single)
    error = (found.x_0 - x_0).abs() / mean.x_0_scale(at).sqrt()
    assert float(error.max()) < 4 * torch.finfo(torch.float32).eps * float(x_t.abs().max())
    torch.testing.assert_close(q_sample(found.x_0, found.epsilon, single), x_t.float(), rtol=1e-5, atol=1e-5)


def test_edm_is_the_papers_preconditioning():
    """D(x; s) = c_skip x + c_out F(c_in x), table 1, of the image x = x_t / signal with noise s = sigma / signal."""
    at, data = constants(), 0.3
    chosen = parameterization("edm", sigma_data=data)
    x_0, epsilon, output = gaussian(0), gaussian(1), gaussian(2)
    x_t = q_sample(x_0, epsilon, at)
    x, noise_level = x_t / at.signal, at.sigma / at.signal
    spread = noise_level**2 + data**2
    c_skip, c_out, c_in = data**2 / spread, noise_level * data / spread.sqrt(), 1 / spread.sqrt()
    torch.testing.assert_close(chosen.network_input(x_t, at), c_in * x, rtol=1e-9, atol=1e-9)
    found = chosen.predict(output, x_t, at)
    torch.testing.assert_close(found.x_0, c_skip * x + c_out * output, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(q_sample(found.x_0, found.epsilon, at), x_t, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(chosen.target(x_0, epsilon, at), (x_0 - c_skip * x) / c_out, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(chosen.x_0_scale(at), c_out**2, rtol=1e-9, atol=0)


def test_on_the_rectified_flow_chain_x_t_is_a_point_on_the_line():
    """With its length taken out, and s = t / T: d x / d s is the flow."""
    at, x_0, epsilon = constants("rectified_flow"), gaussian(0), gaussian(1)
    s = (STEPS.double() / T)[:-1, None, None, None]  # at T, max_beta leaves a little signal
    line = x_0[:-1] + s * parameterization("flow").target(x_0, epsilon, at)[:-1]
    length = (at.signal + at.sigma)[:-1]
    torch.testing.assert_close(q_sample(x_0, epsilon, at)[:-1] / length, line, rtol=0, atol=1e-9)
