"""The process' formulas against diffusers in float64, and against the algebra that they must satisfy."""

import math

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor
from torch.distributions import Normal

from ddpm.base import variant
from ddpm.diffusion import chain as diffusion
from ddpm.diffusion.chain import Chain
from ddpm.diffusion.coefficients import Coefficients, posterior_mean, q_sample
from ddpm.diffusion.schedule import NoiseSchedule

T = 100


@pytest.fixture
def chain() -> Chain:
    # diffusers keeps its betas in float32, so ours start from the same numbers
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


def test_q_sample_equals_diffusers(chain, images):
    x_0, epsilon = images
    ours = q_sample(x_0, epsilon, chain.at(STEPS))
    torch.testing.assert_close(ours, peer().add_noise(x_0, epsilon, STEPS - 1), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("step", [2, 50, 100])
def test_posterior_equals_diffusers(chain, images, step):
    x_0, x_t = images
    scheduler = peer()
    scheduler.config.prediction_type = "sample"
    at = chain.at_step(step)
    generator = torch.Generator().manual_seed(1)
    theirs = scheduler.step(x_0, step - 1, x_t, generator=generator).prev_sample
    z = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ours = posterior_mean(x_0, x_t, at) + (0.5 * at.log_beta_tilde).exp() * z
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_posterior_is_the_product_of_gaussians(chain):
    """q(x_{t-1} | x_t, x_0) is proportional to q(x_t | x_{t-1}) q(x_{t-1} | x_0): precisions add."""
    schedule, at = chain.schedule, chain.at_step(40)
    alpha, beta, before = schedule.alpha[39], schedule.beta[39], schedule.alpha_bar_prev[39]
    precision = alpha / beta + 1 / (1 - before)
    assert schedule.beta_tilde[39] == pytest.approx(1 / precision, rel=1e-10)
    assert float(at.posterior_x_0) == pytest.approx(math.sqrt(before) / (1 - before) / precision, rel=1e-10)
    assert float(at.posterior_x_t) == pytest.approx(math.sqrt(alpha) / beta / precision, rel=1e-10)


def test_normal_kl_equals_torch_distributions():
    generator = torch.Generator().manual_seed(2)
    mean_1, log_1, mean_2, log_2 = torch.randn(4, 50, generator=generator, dtype=torch.float64)
    theirs = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean_1, (0.5 * log_1).exp()), torch.distributions.Normal(mean_2, (0.5 * log_2).exp())
    )
    torch.testing.assert_close(diffusion.normal_kl(mean_1, log_1, mean_2, log_2), theirs)


def test_prior_kl_is_the_distance_of_the_last_step_from_noise(chain):
    x_0, alpha_bar = torch.tensor([-0.5, 1.0], dtype=torch.float64), float(chain.schedule.alpha_bar[9])
    theirs = torch.distributions.kl_divergence(Normal(alpha_bar**0.5 * x_0, (1 - alpha_bar) ** 0.5), Normal(0.0, 1.0))
    torch.testing.assert_close(diffusion.prior_kl(x_0, chain.at_step(10)).flatten(), theirs, rtol=1e-9, atol=0)


LEVELS = torch.arange(256, dtype=torch.float64) / 127.5 - 1


@settings(max_examples=50)
@given(mean=st.floats(-1.5, 1.5), log_variance=st.floats(-14, 4))
def test_the_256_levels_have_all_the_likelihood(mean, log_variance):
    log_likelihood = diffusion.discretized_log_likelihood(LEVELS, torch.tensor(mean), torch.tensor(log_variance))
    assert log_likelihood.isfinite().all()
    assert (log_likelihood <= 0).all()
    assert float(log_likelihood.exp().sum()) == pytest.approx(1, abs=1e-6)


@settings(max_examples=50)
@given(mean=st.floats(-1, 1), log_variance=st.floats(-12, 2), level=st.integers(0, 255))
def test_the_likelihood_of_a_level_is_the_mass_of_its_bin(mean, log_variance, level):
    below = -math.inf if level == 0 else LEVELS[level] - 1 / 255
    above = math.inf if level == 255 else LEVELS[level] + 1 / 255
    normal = stats.norm(mean, math.exp(log_variance / 2))
    mass = normal.cdf(above) - normal.cdf(below) if level < 128 else normal.sf(below) - normal.sf(above)
    belief = torch.tensor([mean, log_variance], dtype=torch.float64)
    ours = diffusion.discretized_log_likelihood(LEVELS[level], *belief)
    assert float(ours.exp()) == pytest.approx(mass, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("mean", [-500.0, -2.0, 0.0, 2.0, 500.0])
def test_the_likelihoods_gradient_is_finite_however_far_the_mean(mean):
    means = torch.full((256,), mean, requires_grad=True)
    log_variance = torch.full((256,), -9.0, requires_grad=True)
    diffusion.discretized_log_likelihood(LEVELS.float(), means, log_variance).sum().backward()
    assert means.grad is not None
    assert means.grad.isfinite().all()
    assert log_variance.grad is not None
    assert log_variance.grad.isfinite().all()


@pytest.mark.parametrize("name", ["fixed_small", "fixed_large"])
def test_the_bounds_terms_sum_to_a_direct_estimate_of_it(name):
    """-log p(x_{0:T}) / q(x_{1:T} | x_0) along chains drawn step by step, with a poor model: its x_0 is 0.8 x_t."""
    steps, count = 6, 200_000
    schedule = NoiseSchedule.from_betas(np.linspace(0.05, 0.6, steps))
    chain = Chain(schedule, dtype=torch.float64)
    variance = variant.build("variances", {"name": name}, "v")
    x_0 = LEVELS[150].expand(count, 1, 1, 1)
    generator = torch.Generator().manual_seed(0)

    def noise() -> Tensor:
        return torch.randn(count, 1, 1, 1, generator=generator, dtype=torch.float64)

    def reverse(x_t: Tensor, at: Coefficients) -> tuple[Tensor, Tensor]:
        return posterior_mean(0.8 * x_t, x_t, at), variance.log_variance(None, at)

    terms = [diffusion.prior_kl(x_0, chain.at_step(steps))]
    for step in range(1, steps + 1):
        at = chain.at_step(step)
        x_t = q_sample(x_0, noise(), at)
        terms.append(diffusion.bound_term(x_0, x_t, *reverse(x_t, at), at))
        assert terms[-1].min() >= 0

    direct, before = torch.zeros_like(x_0), x_0
    for step in range(1, steps + 1):
        beta = schedule.beta[step - 1]
        forward = Normal(math.sqrt(1 - beta) * before, math.sqrt(beta))
        x_t = forward.mean + forward.stddev * noise()
        mean, log_variance = reverse(x_t, chain.at_step(step))
        backward = Normal(mean, (0.5 * log_variance).exp().expand_as(mean))
        if step == 1:
            log_p = (backward.cdf(x_0 + 1 / 255) - backward.cdf(x_0 - 1 / 255)).clamp(min=1e-300).log()
        else:
            log_p = backward.log_prob(before)
        direct = direct + forward.log_prob(x_t) - log_p
        before = x_t
    direct = direct - Normal(0.0, 1.0).log_prob(before)

    ours = sum(float(term.mean()) for term in terms)
    error = math.sqrt(float(direct.var()) / count + sum(float(term.var()) / count for term in terms if len(term) > 1))
    assert ours == pytest.approx(float(direct.mean()), abs=4 * error)
    assert error < 0.02 * ours


def test_images_survive_the_way_to_floats_and_back():
    levels = torch.arange(256, dtype=torch.uint8)
    floats = diffusion.from_images(levels)
    assert floats.min() == -1
    assert floats.max() == 1
    assert torch.equal(diffusion.to_images(floats), levels)
    assert diffusion.to_images(torch.tensor([-9.0, 9.0])).tolist() == [0, 255]


def test_a_chain_of_one_step_works():
    at = Chain(NoiseSchedule.from_betas(np.array([0.5]))).at_step(1)
    assert all(value.isfinite().all() for value in at)
