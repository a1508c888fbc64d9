"""Every timestep sampler of the folder draws from all of 1..T and leaves the loss unbiased."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ddpm.base import variant
from ddpm.compute import noise
from ddpm.training.timesteps import TimestepSampler

NAMES = variant.names("timestep_samplers")
CPU = torch.device("cpu")
T = 50


def sampler(name: str, **fields: float) -> TimestepSampler:
    return variant.build("timestep_samplers", {"name": name, name: fields}, "train.timestep_sampler")


def uniform(count: int, step: int = 0) -> Tensor:
    return noise.uniform(0, "test", torch.arange(count), step)


def loss(t: Tensor) -> Tensor:
    """Unequal losses, as vlb's are."""
    return 10 / t.float()


def warmed(chosen: TimestepSampler, batches: int = 40, size: int = 64) -> dict[str, Tensor]:
    """The sampler's state after some batches with those losses."""
    state = chosen.state(T, CPU)
    for step in range(batches):
        t, _ = chosen.draw(uniform(size, step), T, state)
        chosen.update(state, t, loss(t))
    return state


@pytest.mark.parametrize("name", NAMES)
def test_timesteps_cover_1_to_T(name: str) -> None:
    t, weight = sampler(name).draw(uniform(10_000), T, sampler(name).state(T, CPU))
    assert t.dtype == torch.int64
    assert t.unique().tolist() == list(range(1, T + 1))
    assert weight.dtype == torch.float32
    torch.testing.assert_close(weight, torch.ones(10_000))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=30, deadline=None)
@given(batch=st.integers(1, 300), T=st.integers(1, 4000), u=st.sampled_from([0.0, 0.5, 1 - 2**-53]))
def test_no_draw_leaves_the_chain(name: str, batch: int, T: int, u: float) -> None:
    t, weight = sampler(name).draw(torch.full((batch,), u, dtype=torch.float64), T, sampler(name).state(T, CPU))
    assert len(t) == len(weight) == batch
    assert t.min() >= 1
    assert t.max() <= T


@pytest.mark.parametrize("name", NAMES)
def test_weighted_losses_estimate_the_mean_over_uniform_t(name: str) -> None:
    chosen = sampler(name)
    t, weight = chosen.draw(uniform(200_000), T, warmed(chosen))
    every = loss(torch.arange(1, T + 1))
    assert float((weight * loss(t)).mean()) == pytest.approx(float(every.mean()), rel=0.01)


def test_stratified_takes_one_of_each_part() -> None:
    for step in range(20):
        t, _ = sampler("stratified").draw(uniform(10, step), T, {})
        assert ((t - 1) // 5).tolist() == list(range(10))


def test_second_moment_draws_by_the_root_of_the_mean_square() -> None:
    chosen = sampler("loss_second_moment", uniform_share=1e-6)
    t, _ = chosen.draw(uniform(500_000), T, warmed(chosen))
    frequency = torch.bincount(t - 1, minlength=T) / len(t)
    expected = loss(torch.arange(1, T + 1))
    torch.testing.assert_close(frequency, expected / expected.sum(), rtol=0.1, atol=0)


def test_second_moment_has_less_variance_than_uniform_where_losses_differ() -> None:
    chosen = sampler("loss_second_moment")
    t, weight = chosen.draw(uniform(10_000), T, warmed(chosen))
    other, _ = sampler("uniform").draw(uniform(10_000), T, {})
    assert (weight * loss(t)).var() < 0.01 * loss(other).var()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(1, 4), min_size=9, max_size=9), min_size=1, max_size=5))
def test_second_moment_keeps_the_last_losses_of_each_t(batches: list[list[int]]) -> None:
    chosen = sampler("loss_second_moment", history=3)
    state = chosen.state(4, CPU)
    seen: dict[int, list[float]] = {t: [] for t in range(1, 5)}
    for number, batch in enumerate(batches):
        losses = torch.arange(9.0) + 10 * number + 1
        chosen.update(state, torch.tensor(batch), losses)
        for t, value in zip(batch, losses.tolist(), strict=True):
            seen[t].append(value)
    for t, values in seen.items():
        assert sorted(state["losses"][t - 1].tolist()) == sorted([0.0] * (3 - len(values)) + values[-3:])
        assert int(state["counts"][t - 1]) == len(values)
