"""The process' formulas against diffusers in float64, and against the algebra that they must obey."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from torch import Tensor

from ddpm import diffusion, variants
from ddpm.diffusion import Chain
from ddpm.schedules import NoiseSchedule

T = 100


@pytest.fixture
def chain() -> Chain:
    # diffusers keeps its betas in float32: ours start from the same numbers
    return Chain(NoiseSchedule.from_betas(peer().betas.double().numpy()), dtype=torch.float64)


def peer(variance: str = "fixed_small") -> DDPMScheduler:
    scheduler = DDPMScheduler(T, beta_schedule="linear", beta_end=0.2, variance_type=variance, clip_sample=False)
    scheduler.alphas_cumprod = torch.cumprod(1 - scheduler.betas.double(), 0)
    return scheduler


@pytest.fixture
def images() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (5, 3, 4, 4)
    return tuple(torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))  # type: ignore[return-value]


STEPS = torch.tensor([1, 2, 50, 99, 100])


def test_q_sample_equals_diffusers(chain: Chain, images: tuple[Tensor, Tensor]) -> None:
    x_0, epsilon = images
    ours = diffusion.q_sample(x_0, epsilon, chain.at(STEPS))
    torch.testing.assert_close(ours, peer().add_noise(x_0, epsilon, STEPS - 1), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("step", [2, 50, 100])
def test_posterior_equals_diffusers(chain: Chain, images: tuple[Tensor, Tensor], step: int) -> None:
    x_0, x_t = images
    scheduler = peer()
    scheduler.config.prediction_type = "sample"
    at = chain.at_step(step)
    generator = torch.Generator().manual_seed(1)
    theirs = scheduler.step(x_0, step - 1, x_t, generator=generator).prev_sample
    z = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ours = diffusion.posterior_mean(x_0, x_t, at) + (0.5 * at.log_beta_tilde).exp() * z
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_posterior_is_the_product_of_gaussians(chain: Chain) -> None:
    """q(x_{t-1} | x_t, x_0) is proportional to q(x_t | x_{t-1}) q(x_{t-1} | x_0): precisions add."""
    schedule, at = chain.schedule, chain.at_step(40)
    alpha, beta, before = schedule.alpha[39], schedule.beta[39], schedule.alpha_bar_prev[39]
    precision = alpha / beta + 1 / (1 - before)
    assert schedule.beta_tilde[39] == pytest.approx(1 / precision, rel=1e-10)
    assert float(at.posterior_x_0) == pytest.approx(math.sqrt(before) / (1 - before) / precision, rel=1e-10)
    assert float(at.posterior_x_t) == pytest.approx(math.sqrt(alpha) / beta / precision, rel=1e-10)


@pytest.mark.parametrize("name", variants.names("parameterizations"))
def test_the_true_target_gives_back_x_0_and_epsilon(name: str, chain: Chain, images: tuple[Tensor, Tensor]) -> None:
    parameterization = variants.build("parameterizations", {"name": name}, "diffusion.parameterization")
    x_0, epsilon = images
    at = chain.at(STEPS)
    x_t = diffusion.q_sample(x_0, epsilon, at)
    prediction = parameterization.predict(parameterization.target(x_0, epsilon, at), x_t, at)
    torch.testing.assert_close(prediction.x_0, x_0, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(prediction.epsilon, epsilon, rtol=1e-9, atol=1e-9)


def test_v_target_equals_diffusers(chain: Chain, images: tuple[Tensor, Tensor]) -> None:
    x_0, epsilon = images
    ours = variants.build("parameterizations", {"name": "v"}, "p").target(x_0, epsilon, chain.at(STEPS))
    torch.testing.assert_close(ours, peer().get_velocity(x_0, epsilon, STEPS - 1), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", variants.names("variances"))
def test_log_variances_are_finite_and_in_order(name: str, chain: Chain) -> None:
    variance = variants.build("variances", {"name": name}, "diffusion.variance")
    at = chain.at(torch.arange(1, T + 1))
    output = torch.zeros(T, 3, 2, 2, dtype=torch.float64) if variance.outputs == 2 else None
    log_variance = variance.log_variance(output, at)
    assert log_variance.isfinite().all()
    assert (log_variance >= at.log_beta_tilde - 1e-12).all()
    assert (log_variance <= at.log_beta + 1e-12).all()


def test_normal_kl_equals_torch_distributions() -> None:
    generator = torch.Generator().manual_seed(2)
    mean_1, log_1, mean_2, log_2 = torch.randn(4, 50, generator=generator, dtype=torch.float64)
    theirs = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean_1, (0.5 * log_1).exp()), torch.distributions.Normal(mean_2, (0.5 * log_2).exp())
    )
    torch.testing.assert_close(diffusion.normal_kl(mean_1, log_1, mean_2, log_2), theirs)


def test_images_survive_the_way_to_floats_and_back() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    floats = diffusion.from_images(levels)
    assert floats.min() == -1
    assert floats.max() == 1
    assert torch.equal(diffusion.to_images(floats), levels)
    assert diffusion.to_images(torch.tensor([-9.0, 9.0])).tolist() == [0, 255]


def test_a_chain_of_one_step_works() -> None:
    at = Chain(NoiseSchedule.from_betas(np.array([0.5]))).at_step(1)
    assert all(value.isfinite().all() for value in at)
