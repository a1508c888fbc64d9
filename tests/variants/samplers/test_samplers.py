"""Every sampler with a denoiser whose answer is known; and which steps of the training chain are visited."""

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddpm.base import variant
from ddpm.compute import noise
from ddpm.diffusion.chain import Chain
from ddpm.sampling.sampler import Noise, levels
from ddpm.sampling.spacing import SPACINGS, timesteps
from tests.peers import exact
from tests.small import build

T = 1000
PIXELS = (2, 1, 1)
WITHIN = 0.08  # of the variance, after 200 steps
MAPS = {name: {"end": 0} for name in ("consistency", "flow_map")}  # what they ask for at the last step
SMALL = build("variances", "fixed_small")


def of_length(T: int, name: str = "linear", **fields):
    return build("schedules", name, **fields).noise_schedule(T)


WHOLE = {
    "linear": of_length(T), "cosine": of_length(T, "cosine"), "zero_terminal_snr": of_length(T, zero_terminal_snr=True)
}  # fmt: skip
sampler = partial(build, "samplers")


def chain(schedule, steps: int, spacing="uniform") -> Chain:
    """The chain respaced to ``steps``, in float64."""
    return Chain(schedule.respace(timesteps(schedule, steps, spacing)), dtype=torch.float64)


def noises(count: int) -> Noise:
    return lambda t: noise.gaussian(0, "reverse", torch.arange(count), t, PIXELS).double()


def start(count: int):
    return noise.gaussian(0, "x_T", torch.arange(count), 0, PIXELS).double()


@pytest.mark.parametrize("schedule", ["cosine", "zero_terminal_snr"])
@pytest.mark.parametrize("name", variant.names("samplers"))
def test_noise_becomes_gaussian_data_of_the_right_mean_and_covariance(name, schedule):
    whole, count = WHOLE[schedule], 4000
    visited = chain(whole, 3, "trailing") if name in MAPS else chain(whole, 200)
    *_, last = sampler(name).steps(exact.gaussian(whole), start(count), visited, noises(count), SMALL)
    samples = last.flatten(1)
    off = float((samples.mean(0) - exact.MEAN).abs().max())
    assert off < 0.02, f"{name} draws images whose mean is off by {off:.2g} ({0.02} allowed) under {schedule}"
    change = samples.T.cov() / exact.COVARIANCE - 1  # of the data's (co)variances
    assert change.abs().max() < WITHIN, f"{name} changes them by {change.tolist()} under {schedule}"


@pytest.mark.parametrize("schedule", WHOLE)
@pytest.mark.parametrize(("name", "steps"), [
    (name, steps) for name in variant.names("samplers") for steps in ((2,) if name in MAPS else (2, 10))
])  # fmt: skip
def test_every_sampler_works_at_few_steps_and_yields_each(name, steps, schedule):
    whole, chosen = WHOLE[schedule], sampler(name)
    denoise = exact.mixture(whole)
    states = list(chosen.steps(denoise, start(5), chain(whole, steps), noises(5), SMALL))
    assert len(states) == steps
    assert len(denoise.visited) == (2 * steps - 1 if name == "heun" else steps)
    assert denoise.visited[0] == T
    assert set(denoise.visited) == set(timesteps(whole, steps, "uniform").tolist())
    assert all(state.isfinite().all() for state in states)
    assert states[-1].abs().max() < 3, "an image, not an overflow"


@pytest.mark.parametrize("name", variant.names("samplers"))
def test_one_step_is_the_denoisers_own_answer(name):
    whole = WHOLE["cosine"]
    denoise, x_T = exact.mixture(whole), start(5)
    (only,) = sampler(name).steps(denoise, x_T, chain(whole, 1), noises(5), SMALL)
    torch.testing.assert_close(only, denoise(x_T, T, **MAPS.get(name, {})).x_0, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", variant.names("samplers"))
def test_noise_is_asked_for_once_at_each_step_or_never_and_the_last_needs_none(name):
    visited, asked = chain(WHOLE["cosine"], 10), []
    fields = {"eta": 1.0} if name == "ddim" else {}
    denoise = exact.gaussian(WHOLE["cosine"])
    _ = [*sampler(name, **fields).steps(denoise, start(5), visited, lambda t: asked.append(t) or 0, SMALL)]
    steps = [level.t for level in levels(visited.schedule)[:-1]]
    assert asked in ([], steps[:-1], steps)  # noise times a sigma of 0 is none


def test_levels_lead_from_noise_to_the_image():
    path = levels(WHOLE["zero_terminal_snr"].respace(timesteps(WHOLE["linear"], 5, "uniform")))
    assert [level.t for level in path] == [1000, 750, 500, 251, 1, 0]
    assert path[0][1:] == (0.0, 1.0, -float("inf"))
    assert path[-1][1:] == (1.0, 0.0, float("inf"))
    assert all(after.log_ratio > before.log_ratio for before, after in pairwise(path))
    assert all(level.signal**2 + level.sigma**2 == pytest.approx(1) for level in path)


@pytest.mark.parametrize("spacing", SPACINGS)
@given(data=st.data(), name=st.sampled_from(variant.names("schedules")), length=st.integers(10, 1200))
def test_timesteps_are_distinct_ascending_and_end_at_T(spacing, data, name, length):
    schedule = of_length(length, name, zero_terminal_snr=data.draw(st.booleans()))
    steps = data.draw(st.integers(1, length))
    visited = timesteps(schedule, steps, spacing)
    assert visited.shape == (steps,)
    assert np.all(np.diff(visited) > 0)
    assert visited[0] >= 1
    assert visited[-1] == length


@pytest.mark.parametrize("spacing", SPACINGS)
def test_as_many_steps_as_the_chain_has_visit_all(spacing):
    assert timesteps(of_length(100), 100, spacing).tolist() == list(range(1, 101))
    assert timesteps(of_length(1), 1, spacing).tolist() == [1]


def test_the_papers_spacings():
    assert timesteps(of_length(1000), 5, "uniform").tolist() == [1, 251, 500, 750, 1000]
    assert timesteps(of_length(1000), 5, "trailing").tolist() == [200, 400, 600, 800, 1000]
    # Lin et al. 2023, table 2: trailing at 50 steps is 1000, 980, ... 20
    assert timesteps(of_length(1000), 50, "trailing").tolist() == list(range(20, 1001, 20))


@pytest.mark.parametrize("name", ["linear", "karras"])
def test_karras_is_equation_5_between_the_chains_ends(name):
    schedule, steps, rho = of_length(4000, name), 18, 7
    sigma = np.exp(-schedule.log_snr / 2)
    place = np.arange(steps) / (steps - 1)
    published = (sigma[-1] ** (1 / rho) + place * (sigma[0] ** (1 / rho) - sigma[-1] ** (1 / rho))) ** rho
    found = sigma[timesteps(schedule, steps, "karras") - 1][::-1]
    inner = published > 3 * sigma[0]  # the linear chain's first steps are far apart
    np.testing.assert_allclose(found[inner], published[inner], rtol=0.02)
    assert found[[0, -1]].tolist() == sigma[[-1, 0]].tolist()
