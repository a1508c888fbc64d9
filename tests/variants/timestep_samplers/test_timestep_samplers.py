"""Every timestep sampler in the folder draws from all of 1..T and leaves the loss unbiased."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.integrate import quad
from torch import Tensor

from ddpm.base import variant
from ddpm.compute import noise
from tests.small import CPU, build

NAMES = variant.names("timestep_samplers")
T = 50


sampler = partial(build, "timestep_samplers")


def chain(length: int, schedule: str = "cosine"):
    return build("schedules", schedule).noise_schedule(length)


def uniform(count: int, step: int = 0) -> Tensor:
    return noise.uniform(0, "test", torch.arange(count), step)


def loss(t: Tensor) -> Tensor:
    """Unequal losses."""
    return 10 / t.float()


def warmed(chosen, batches: int = 40, size: int = 64) -> dict[str, Tensor]:
    """The sampler's state after some batches with those losses."""
    state = chosen.state(chain(T), CPU)
    for step in range(batches):
        t, _ = chosen.draw(uniform(size, step), T, state)
        chosen.update(state, t, loss(t))
    return state


@pytest.mark.parametrize("name", NAMES)
def test_weight_times_probability_is_uniform_over_t(name):
    """By counting: among evenly spaced draws, each t gets the share of its probability to within one draw. A sampler
    that learns from losses has some of each t."""
    count, chosen = 2**18, sampler(name)
    even = (torch.arange(count).double() + 0.5) / count
    t, weight = chosen.draw(even, T, warmed(chosen))
    assert weight.max() < 100, "a rare t must not have a huge weight"
    share = torch.zeros(T, dtype=torch.float64).index_add_(0, t - 1, weight.double()) / count
    torch.testing.assert_close(share, torch.full((T,), 1 / T).double(), rtol=0, atol=float(weight.max()) / count)


def test_stratified_takes_one_of_each_part():
    for step in range(20):
        t, _ = sampler("stratified").draw(uniform(10, step), T, {})
        assert ((t - 1) // 5).tolist() == list(range(10))


@pytest.mark.parametrize("fields", [{}, {"mean": -1.2, "std": 0.3}])
@pytest.mark.parametrize("length", [1, 7, 1000])
def test_the_published_density_is_drawn_but_for_the_uniform_share(fields, length):
    """Compared with SciPy's quadrature of the density over ((t - 1) / T, t / T]."""

    def density(u: float) -> float:
        # SD3's equation 19
        normal = stats.norm(fields.get("mean", 0), fields.get("std", 1))
        return float(normal.pdf(np.log(u / (1 - u))) / (u * (1 - u))) if 0 < u < 1 else 0.0

    shares = sampler("logit_normal", uniform_share=0.25, **fields).state(chain(length), CPU)["shares"].double()
    at = [t for t in (1, 2, 5, 600, 1000) if t <= length]
    mass = [quad(density, (t - 1) / length, t / length, limit=200)[0] for t in at]
    whole = quad(density, 0, 1, limit=500)[0]
    expected = 0.75 * torch.tensor(mass) / whole + 0.25 / length
    torch.testing.assert_close((shares / shares.sum())[torch.tensor(at) - 1], expected.double(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("schedule", ["karras", "cosine", "linear"])
def test_lognormal_gives_each_t_the_mass_around_its_noise_level(schedule):
    drawn_from = chain(1000, schedule)
    shares = sampler("lognormal", uniform_share=0.25).state(drawn_from, CPU)["shares"].double()
    log_sigma = -drawn_from.log_snr / 2
    below = stats.norm(-1.2, 1.2).cdf((log_sigma[1:] + log_sigma[:-1]) / 2)
    expected = torch.from_numpy(0.75 * np.diff(below)) + 0.25 / 1000
    torch.testing.assert_close((shares / shares.sum())[1:-1], expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", ["logit_normal", "lognormal"])
def test_without_weights_the_same_t_are_drawn(name):
    plain, weighted = sampler(name, unbiased=False), sampler(name)
    (t, ones), (expected, _) = (each.draw(uniform(1000), T, plain.state(chain(T), CPU)) for each in (plain, weighted))
    assert torch.equal(t, expected)
    assert torch.equal(ones, torch.ones(1000))


def test_second_moment_draws_by_the_root_of_the_mean_square():
    chosen = sampler("loss_second_moment", uniform_share=1e-6)
    t, _ = chosen.draw(uniform(500_000), T, warmed(chosen))
    frequency = torch.bincount(t - 1, minlength=T) / len(t)
    expected = loss(torch.arange(1, T + 1))
    torch.testing.assert_close(frequency, expected / expected.sum(), rtol=0.1, atol=0)


@settings(max_examples=30)
@given(st.lists(st.lists(st.integers(1, 4), min_size=9, max_size=9), min_size=1, max_size=5))
def test_second_moment_keeps_the_last_losses_of_each_t(batches):
    chosen = sampler("loss_second_moment", history=3)
    state = chosen.state(chain(4), CPU)
    seen: dict[int, list[float]] = {t: [] for t in range(1, 5)}
    for number, batch in enumerate(batches):
        losses = torch.arange(9.0) + 10 * number + 1
        chosen.update(state, torch.tensor(batch), losses)
        for t, value in zip(batch, losses.tolist(), strict=True):
            seen[t].append(value)
    for t, values in seen.items():
        assert sorted(state["losses"][t - 1].tolist()) == sorted([0.0] * (3 - len(values)) + values[-3:])
        assert int(state["counts"][t - 1]) == len(values)
