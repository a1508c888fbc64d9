"""Samplers step by step against diffusers' schedulers, with the same network, noise and timesteps.

If a scheduler makes its tables in float32, the test puts float64 ones in their place.
"""

from functools import partial

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler
from torch import Tensor

from ddpm.base import variant
from ddpm.compute import noise
from ddpm.diffusion.chain import Chain
from ddpm.diffusion.parameterization import Prediction
from ddpm.diffusion.schedule import NoiseSchedule
from ddpm.sampling.sampler import Denoise, Sampler, levels
from ddpm.sampling.spacing import timesteps
from tests.small import build

# diffusers' own warning, under NumPy 2
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning"),
]

T = 1000
SHAPE = (2, 3, 3)
INDEX = torch.arange(3)
WHOLE = NoiseSchedule.from_betas(np.linspace(1e-4, 0.02, T))
SMALL = build("variances", "fixed_small")
sampler = partial(build, "samplers")
PRECISIONS = pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])


def network(x: Tensor, t: int) -> Tensor:
    """Some epsilon that depends on both."""
    return torch.tanh(x + t / T)


def denoiser(whole: NoiseSchedule, dtype: torch.dtype, target: str = "epsilon") -> Denoise:
    chain, parameterization = Chain(whole, dtype=dtype), build("parameterizations", target)

    def denoise(x: Tensor, t: int) -> Prediction:
        prediction = parameterization.predict(network(x, t), x, chain.at_step(t))
        return prediction._replace(variance_output=torch.cos(x))

    return denoise


def start(dtype: torch.dtype) -> Tensor:
    return noise.gaussian(0, "x_T", INDEX, 0, SHAPE).to(dtype)


def noises(t: int) -> Tensor:
    return noise.gaussian(0, "reverse", INDEX, t, SHAPE).double()


def ours(chosen: Sampler, schedule: NoiseSchedule, dtype: torch.dtype) -> list[Tensor]:
    chain = Chain(schedule, dtype=dtype)
    return list(chosen.steps(denoiser(WHOLE, dtype), start(dtype), chain, lambda t: noises(t).to(dtype), SMALL))


def visit(peer, schedule: NoiseSchedule, dtype: torch.dtype) -> None:
    """Make the scheduler visit our levels: its t is one less, its sigma is sigma / signal, 0 at the image."""
    path = levels(schedule)
    peer.set_timesteps(len(schedule))
    peer.timesteps = torch.tensor([level.t - 1 for level in path[:-1]])
    peer.sigmas = torch.tensor([level.sigma / level.signal for level in path], dtype=torch.float64).to(dtype)


def assert_near(state: Tensor, theirs: Tensor, tolerance: float) -> None:
    """Relative to the largest pixel: rounding errors have that size wherever the coefficients cancel."""
    torch.testing.assert_close(state, theirs, rtol=0, atol=tolerance * float(theirs.abs().max()))


@PRECISIONS
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_equals_diffusers(eta, dtype, tolerance):
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


@pytest.mark.parametrize("variance", variant.names("variances"))
@pytest.mark.parametrize(("target", "named"), [("epsilon", "epsilon"), ("v", "v_prediction"), ("x0", "sample")])
def test_ancestral_equals_diffusers(target, named, variance):
    """Also with a variance that the network's second half interpolates, for every target that they have."""
    kind = {"variance_type": variance, "prediction_type": named, "clip_sample": False}
    peer = DDPMScheduler(100, beta_schedule="linear", beta_end=0.2, **kind)
    peer.alphas_cumprod = torch.cumprod(1 - peer.betas.double(), 0)
    schedule = NoiseSchedule.from_betas(peer.betas.double().numpy())

    def drawn(t: int) -> Tensor:
        return torch.randn((3, *SHAPE), generator=torch.Generator().manual_seed(t), dtype=torch.float64)

    theirs = start(torch.float64)
    chain, denoise = Chain(schedule, dtype=torch.float64), denoiser(schedule, torch.float64, target)
    states = sampler("ancestral").steps(denoise, theirs, chain, drawn, build("variances", variance))
    for step, state in zip(range(100, 0, -1), states, strict=True):
        generator = torch.Generator().manual_seed(step)
        output = network(theirs, step)
        output = torch.cat([output, torch.cos(theirs)], dim=1) if variance == "learned_range" else output
        theirs = peer.step(output, step - 1, theirs, generator=generator).prev_sample
        assert_near(state, theirs, 1e-10)


@PRECISIONS
@pytest.mark.parametrize("spacing", ["uniform", "trailing", "karras"])
@pytest.mark.parametrize("steps", [5, 20])
def test_dpmpp_2m_equals_diffusers(steps, spacing, dtype, tolerance):
    """Update by update: their ``step`` casts x to float32, and lowers the second-to-last order below 15 steps."""
    peer = DPMSolverMultistepScheduler(T, beta_schedule="linear", algorithm_type="dpmsolver++")
    schedule = WHOLE.respace(timesteps(WHOLE, steps, spacing))
    visit(peer, schedule, dtype)
    theirs, x_0 = start(dtype), []
    states = zip(peer.timesteps.tolist(), ours(sampler("dpmpp_2m"), schedule, dtype), strict=True)
    for step, (t, state) in enumerate(states):
        peer._step_index = step
        x_0.append(peer.convert_model_output(network(theirs, t + 1), sample=theirs))
        z = noises(t + 1).to(dtype)
        if step in (0, steps - 1):
            theirs = peer.dpm_solver_first_order_update(x_0[-1], sample=theirs, noise=z)
        else:
            theirs = peer.multistep_dpm_solver_second_order_update(x_0, sample=theirs, noise=z)
        assert_near(state, theirs, tolerance)


@PRECISIONS
@pytest.mark.parametrize("spacing", ["uniform", "trailing", "karras"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_unipc_equals_diffusers(order, spacing, dtype, tolerance):
    peer = UniPCMultistepScheduler(T, beta_schedule="linear", solver_order=order, solver_type="bh2")
    schedule = WHOLE.respace(timesteps(WHOLE, 12, spacing))
    visit(peer, schedule, dtype)
    theirs = start(dtype)
    for t, state in zip(peer.timesteps.tolist(), ours(sampler("unipc", order=order), schedule, dtype), strict=True):
        theirs = peer.step(network(theirs, t + 1), t, theirs).prev_sample
        assert_near(state, theirs, tolerance)


@pytest.mark.parametrize("ratio", [1.1, 2.0, 5.0])
def test_heun_near_the_image_weighs_as_edms_trapezoid(ratio):
    """Half the step in sigma / signal, over its end: what a change of x_0 by 1 adds to DDIM's step."""
    chain = Chain(NoiseSchedule(np.array([14.0, 14.0 - 2 * np.log(ratio)]), np.arange(1, 3)), dtype=torch.float64)
    x_T = start(torch.float64)
    first = lambda x, t: Prediction(torch.full_like(x, 2.0 - t), x_T)  # noqa: E731 (x_0 is 0 at t = 2 and 1 at t = 1)
    after, *_ = sampler("heun").steps(first, x_T, chain, noises, SMALL)
    added = after - levels(chain.schedule)[1].sigma * x_T
    torch.testing.assert_close(added, torch.full_like(added, (ratio - 1) / 2), rtol=1e-3, atol=0)
