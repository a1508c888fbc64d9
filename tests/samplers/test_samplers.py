"""Samplers with a denoiser whose answer is known, and step by step against diffusers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from torch import Tensor

from ddpm import noise, variants
from ddpm.diffusion import Chain
from ddpm.parameterizations import Prediction
from ddpm.samplers import Sampler
from ddpm.sampling import timesteps
from ddpm.schedules import NoiseSchedule

T = 1000
SMALL = variants.build("variances", {"name": "fixed_small"}, "v")


def sampler(name: str, **fields: float) -> Sampler:
    return variants.build("samplers", {"name": name, name: fields}, "sample.sampler")


def chains(steps: int, name: str = "cosine") -> tuple[Chain, Chain]:
    """The training chain and the one respaced to ``steps``."""
    schedule = variants.build("schedules", {"name": name}, "s").noise_schedule(T)
    respaced = schedule.respace(timesteps(T, steps, "uniform"))
    return Chain(schedule, dtype=torch.float64), Chain(respaced, dtype=torch.float64)


class GaussianData:
    """The exact posterior mean for data N(mean, deviation^2): what a perfect network would predict."""

    def __init__(self, chain: Chain, mean: float, deviation: float):
        self.chain, self.mean, self.variance = chain, mean, deviation**2

    def __call__(self, x_t: Tensor, t: int) -> Prediction:
        at = self.chain.at_step(t)
        gain = at.signal * self.variance / (at.alpha_bar * self.variance + at.sigma.square())
        x_0 = self.mean + gain * (x_t - at.signal * self.mean)
        return Prediction(x_0, (x_t - at.signal * x_0) / at.sigma)


def draw(name: str, steps: int, mean: float, deviation: float, count: int = 20_000) -> Tensor:
    whole, chain = chains(steps)
    index = torch.arange(count)
    x_T = noise.gaussian(0, "x_T", index, 0, (1, 1, 1)).double()
    denoise = GaussianData(whole, mean, deviation)
    states = sampler(name).steps(
        denoise, x_T, chain, lambda t: noise.gaussian(0, "reverse", index, t, (1, 1, 1)).double(), SMALL
    )
    *_, last = states
    return last


@pytest.mark.parametrize("name", variants.names("samplers"))
def test_noise_becomes_gaussian_data_of_the_right_mean_and_spread(name: str) -> None:
    samples = draw(name, 200, mean=0.4, deviation=0.5)
    assert float(samples.mean()) == pytest.approx(0.4, abs=0.02)
    assert float(samples.std()) == pytest.approx(0.5, rel=0.03)


@pytest.mark.parametrize("name", variants.names("samplers"))
@pytest.mark.parametrize("steps", [1, 2, 10])
def test_every_sampler_works_at_few_steps_and_yields_each(name: str, steps: int) -> None:
    whole, chain = chains(steps)
    calls: list[int] = []

    def denoise(x_t: Tensor, t: int) -> Prediction:
        calls.append(t)
        return GaussianData(whole, 0.0, 0.5)(x_t, t)

    chosen = sampler(name)
    states = list(chosen.steps(denoise, torch.ones(2, 1, 4, 4).double(), chain, lambda t: torch.zeros(1), SMALL))
    assert len(states) == steps
    assert len(calls) == chosen.evaluations(steps)
    assert calls[0] == T
    assert all(state.isfinite().all() for state in states)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_equals_diffusers_step_by_step(eta: float) -> None:
    peer = DDIMScheduler(
        T, beta_schedule="linear", clip_sample=False, set_alpha_to_one=True, timestep_spacing="leading", steps_offset=0
    )
    peer.alphas_cumprod = torch.cumprod(1 - peer.betas.double(), 0)
    peer.final_alpha_cumprod = torch.tensor(1.0, dtype=torch.float64)
    peer.set_timesteps(20)
    visited = peer.timesteps.numpy()[::-1].astype(np.int64) + 1
    schedule = NoiseSchedule.from_betas(peer.betas.double().numpy()).respace(visited)
    index = torch.arange(3)

    def network(x: Tensor, t: int) -> Tensor:
        return torch.tanh(x + t / T)

    def noises(t: int) -> Tensor:
        return noise.gaussian(0, "reverse", index, t, (2, 3, 3)).double()

    whole = Chain(NoiseSchedule.from_betas(peer.betas.double().numpy()), dtype=torch.float64)

    def denoise(x: Tensor, t: int) -> Prediction:
        at, epsilon = whole.at_step(t), network(x, t)
        return Prediction((x - at.sigma * epsilon) / at.signal, epsilon)

    x = theirs = noise.gaussian(0, "x_T", index, 0, (2, 3, 3)).double()
    ours = sampler("ddim", eta=eta).steps(denoise, x, Chain(schedule, dtype=torch.float64), noises, SMALL)
    for t, state in zip(peer.timesteps.tolist(), ours, strict=True):
        z = noises(t + 1) if t > 0 else torch.zeros_like(theirs)
        theirs = peer.step(network(theirs, t + 1), t, theirs, eta=eta, variance_noise=z).prev_sample
        torch.testing.assert_close(state, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
def test_ancestral_equals_diffusers_step_by_step(variance: str) -> None:
    peer = DDPMScheduler(100, beta_schedule="linear", beta_end=0.2, variance_type=variance, clip_sample=False)
    peer.alphas_cumprod = torch.cumprod(1 - peer.betas.double(), 0)
    schedule = NoiseSchedule.from_betas(peer.betas.double().numpy())
    chain = Chain(schedule, dtype=torch.float64)
    shape = (3, 2, 3, 3)

    def network(x: Tensor, t: int) -> Tensor:
        return torch.tanh(x + t / 100)

    def denoise(x: Tensor, t: int) -> Prediction:
        at, epsilon = chain.at_step(t), network(x, t)
        return Prediction((x - at.sigma * epsilon) / at.signal, epsilon)

    def noises(t: int) -> Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(t), dtype=torch.float64)

    x = theirs = noises(0)
    chosen = variants.build("variances", {"name": variance}, "v")
    for step, state in zip(
        range(100, 0, -1), sampler("ancestral").steps(denoise, x, chain, noises, chosen), strict=True
    ):
        generator = torch.Generator().manual_seed(step)
        theirs = peer.step(network(theirs, step), step - 1, theirs, generator=generator).prev_sample
        torch.testing.assert_close(state, theirs, rtol=1e-9, atol=1e-9)


def test_ddim_with_eta_one_is_the_ancestral_sampler_of_small_variance() -> None:
    whole, chain = chains(50)
    denoise = GaussianData(whole, 0.1, 0.7)
    x = noise.gaussian(0, "x_T", torch.arange(4), 0, (1, 2, 2)).double()

    def noises(t: int) -> Tensor:
        return noise.gaussian(0, "reverse", torch.arange(4), t, (1, 2, 2)).double()

    *_, ddim = sampler("ddim", eta=1.0).steps(denoise, x, chain, noises, SMALL)
    *_, ancestral = sampler("ancestral").steps(denoise, x, chain, noises, SMALL)
    torch.testing.assert_close(ddim, ancestral, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("spacing", ["uniform", "trailing"])
@pytest.mark.parametrize(("length", "steps"), [(1000, 50), (1000, 1000), (1000, 1), (10, 7), (1, 1)])
def test_timesteps_are_distinct_ascending_and_end_at_T(spacing: str, length: int, steps: int) -> None:
    visited = timesteps(length, steps, spacing)  # type: ignore[arg-type]
    assert len(visited) == steps
    assert np.all(np.diff(visited) > 0)
    assert visited[0] >= 1
    assert visited[-1] == length
