"""Samplers step by step against diffusers' schedulers, with the same network, noise and timesteps.

Where a scheduler makes its tables in float32, the test puts float64 ones in their place.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    HeunDiscreteScheduler,
    UniPCMultistepScheduler,
)
from torch import Tensor

from ddpm import noise, variants
from ddpm.diffusion import Chain
from ddpm.parameterizations import Prediction
from ddpm.samplers import Denoise, Sampler, levels
from ddpm.sampling import Spacing, timesteps
from ddpm.schedules import NoiseSchedule

# diffusers' own, under NumPy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

T = 1000
SHAPE = (2, 3, 3)
INDEX = torch.arange(3)
WHOLE = NoiseSchedule.from_betas(np.linspace(1e-4, 0.02, T))
SMALL = variants.build("variances", {"name": "fixed_small"}, "v")
PRECISIONS = pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])


def sampler(name: str, **fields: float) -> Sampler:
    return variants.build("samplers", {"name": name, name: fields}, "sample.sampler")


def network(x: Tensor, t: int) -> Tensor:
    """Some epsilon that depends on both."""
    return torch.tanh(x + t / T)


def denoiser(whole: NoiseSchedule, dtype: torch.dtype) -> Denoise:
    chain = Chain(whole, dtype=dtype)

    def denoise(x: Tensor, t: int) -> Prediction:
        at, epsilon = chain.at_step(t), network(x, t)
        return Prediction((x - at.sigma * epsilon) / at.signal, epsilon)

    return denoise


def start(dtype: torch.dtype) -> Tensor:
    return noise.gaussian(0, "x_T", INDEX, 0, SHAPE).to(dtype)


def noises(t: int) -> Tensor:
    return noise.gaussian(0, "reverse", INDEX, t, SHAPE).double()


def ours(chosen: Sampler, schedule: NoiseSchedule, dtype: torch.dtype) -> list[Tensor]:
    chain = Chain(schedule, dtype=dtype)
    return list(chosen.steps(denoiser(WHOLE, dtype), start(dtype), chain, lambda t: noises(t).to(dtype), SMALL))


def visit(peer: Any, schedule: NoiseSchedule, dtype: torch.dtype, repeats: int = 1) -> None:
    """Make the scheduler visit ours' levels: its t is one less, its sigma is sigma / signal, 0 at the image."""
    path = levels(schedule)
    peer.set_timesteps(len(schedule))
    t = torch.tensor([level.t - 1 for level in path[:-1]])
    sigmas = torch.tensor([level.sigma / level.signal for level in path], dtype=torch.float64).to(dtype)
    peer.timesteps = torch.cat([t[:1], t[1:].repeat_interleave(repeats)])
    peer.sigmas = torch.cat([sigmas[:1], sigmas[1:-1].repeat_interleave(repeats), sigmas[-1:]])


def assert_near(state: Tensor, theirs: Tensor, tolerance: float) -> None:
    """Relative to the largest pixel: rounding errors are of that size wherever the coefficients cancel."""
    torch.testing.assert_close(state, theirs, rtol=0, atol=tolerance * float(theirs.abs().max()))


@PRECISIONS
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_equals_diffusers(eta: float, dtype: torch.dtype, tolerance: float) -> None:
    peer = DDIMScheduler(T, beta_schedule="linear", clip_sample=False, timestep_spacing="leading", steps_offset=0)
    peer.alphas_cumprod = torch.from_numpy(WHOLE.alpha_bar).to(dtype)
    peer.final_alpha_cumprod = torch.tensor(1.0, dtype=dtype)
    peer.set_timesteps(20)
    schedule = WHOLE.respace(peer.timesteps.numpy()[::-1] + 1)
    theirs = start(dtype)
    for t, state in zip(peer.timesteps.tolist(), ours(sampler("ddim", eta=eta), schedule, dtype), strict=True):
        z = noises(t + 1).to(dtype) if t > 0 else torch.zeros_like(theirs)
        theirs = peer.step(network(theirs, t + 1), t, theirs, eta=eta, variance_noise=z).prev_sample
        assert_near(state, theirs, tolerance)


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
def test_ancestral_equals_diffusers(variance: str) -> None:
    peer = DDPMScheduler(100, beta_schedule="linear", beta_end=0.2, variance_type=variance, clip_sample=False)
    peer.alphas_cumprod = torch.cumprod(1 - peer.betas.double(), 0)
    schedule = NoiseSchedule.from_betas(peer.betas.double().numpy())

    def drawn(t: int) -> Tensor:
        return torch.randn((3, *SHAPE), generator=torch.Generator().manual_seed(t), dtype=torch.float64)

    theirs = start(torch.float64)
    chosen = variants.build("variances", {"name": variance}, "v")
    chain, denoise = Chain(schedule, dtype=torch.float64), denoiser(schedule, torch.float64)
    states = sampler("ancestral").steps(denoise, theirs, chain, drawn, chosen)
    for step, state in zip(range(100, 0, -1), states, strict=True):
        generator = torch.Generator().manual_seed(step)
        theirs = peer.step(network(theirs, step), step - 1, theirs, generator=generator).prev_sample
        assert_near(state, theirs, 1e-10)


@PRECISIONS
@pytest.mark.parametrize("spacing", ["uniform", "trailing", "log_snr"])
@pytest.mark.parametrize("steps", [5, 20])
def test_dpmpp_2m_equals_diffusers(steps: int, spacing: Spacing, dtype: torch.dtype, tolerance: float) -> None:
    """Update by update: their ``step`` casts x to float32, and lowers the last but one's order below 15 steps."""
    peer = DPMSolverMultistepScheduler(T, beta_schedule="linear")
    schedule = WHOLE.respace(timesteps(WHOLE, steps, spacing))
    visit(peer, schedule, dtype)
    theirs, x_0 = start(dtype), []
    states = ours(sampler("dpmpp_2m"), schedule, dtype)
    for step, (t, state) in enumerate(zip(peer.timesteps.tolist(), states, strict=True)):
        peer._step_index = step
        x_0.append(peer.convert_model_output(network(theirs, t + 1), sample=theirs))
        if step in (0, steps - 1):
            theirs = peer.dpm_solver_first_order_update(x_0[-1], sample=theirs)
        else:
            theirs = peer.multistep_dpm_solver_second_order_update(x_0, sample=theirs)
        assert_near(state, theirs, tolerance)


@PRECISIONS
@pytest.mark.parametrize("spacing", ["uniform", "trailing", "log_snr"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_unipc_equals_diffusers(order: int, spacing: Spacing, dtype: torch.dtype, tolerance: float) -> None:
    peer = UniPCMultistepScheduler(T, beta_schedule="linear", solver_order=order, solver_type="bh2")
    schedule = WHOLE.respace(timesteps(WHOLE, 12, spacing))
    visit(peer, schedule, dtype)
    theirs = start(dtype)
    for t, state in zip(peer.timesteps.tolist(), ours(sampler("unipc", order=order), schedule, dtype), strict=True):
        theirs = peer.step(network(theirs, t + 1), t, theirs).prev_sample
        assert_near(state, theirs, tolerance)


@PRECISIONS
def test_heun_equals_diffusers(dtype: torch.dtype, tolerance: float) -> None:
    """Over steps that at most halve sigma / signal, where ours is EDM's to the letter; theirs works on x / signal."""
    schedule = WHOLE.respace(timesteps(WHOLE, 30, "log_snr"))
    path = levels(schedule)
    assert all(b.log_ratio - a.log_ratio < np.log(2) for a, b in pairwise(path[:-1]))
    peer = HeunDiscreteScheduler(T, beta_schedule="linear")
    visit(peer, schedule, dtype, repeats=2)
    theirs = start(dtype) / path[0].signal
    calls = iter(peer.timesteps.tolist())
    for state, end in zip(ours(sampler("heun"), schedule, dtype), path[1:], strict=True):
        for t in [next(calls)] if end.t == 0 else [next(calls), next(calls)]:
            theirs = peer.step(network(peer.scale_model_input(theirs, t), int(t) + 1), t, theirs).prev_sample
        assert_near(state, theirs * end.signal, tolerance)
