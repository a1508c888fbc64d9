"""The process' formulas against diffusers in float64, and against the algebra that they must satisfy."""

import math

import pytest
import torch
from diffusers import DDPMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ddpm.base.errors import UserError
from ddpm.diffusion import chain as diffusion
from ddpm.diffusion.chain import Chain
from ddpm.diffusion.coefficients import q_sample
from ddpm.diffusion.schedule import NoiseSchedule
from tests.small import small

T = 100


def peer() -> DDPMScheduler:
    scheduler = DDPMScheduler(T, beta_schedule="linear", beta_end=0.2, variance_type="fixed_small", clip_sample=False)
    scheduler.alphas_cumprod = torch.cumprod(1 - scheduler.betas.double(), 0)
    return scheduler


# diffusers keeps its betas in float32, so ours start from the same numbers
CHAIN = Chain(NoiseSchedule.from_betas(peer().betas.double().numpy()), dtype=torch.float64)
IMAGES = torch.randn(2, 5, 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
STEPS = torch.tensor([1, 2, 50, 99, 100])


def test_q_sample_equals_diffusers():
    x_0, epsilon = IMAGES
    ours = q_sample(x_0, epsilon, CHAIN.at(STEPS))
    torch.testing.assert_close(ours, peer().add_noise(x_0, epsilon, STEPS - 1), rtol=1e-10, atol=1e-10)


LEVELS = torch.arange(256, dtype=torch.float64) / 127.5 - 1


@settings(max_examples=50)
@given(mean=st.floats(-1.5, 1.5), log_variance=st.floats(-14, 4), level=st.integers(0, 255))
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
    assert means.grad.isfinite().all()
    assert log_variance.grad.isfinite().all()


def test_images_survive_the_way_to_floats_and_back():
    levels = torch.arange(256, dtype=torch.uint8)
    floats = diffusion.from_images(levels)
    assert floats.min() == -1
    assert floats.max() == 1
    assert torch.equal(diffusion.to_images(floats), levels)
    assert diffusion.to_images(torch.tensor([-9.0, 9.0])).tolist() == [0, 255]


def test_without_noise_conditioning_the_network_is_shown_the_same_t_at_all_steps():
    shown = []

    def network(x_t: torch.Tensor, t: torch.Tensor, *_: object) -> torch.Tensor:
        shown.append(t)
        return x_t

    x_t, at = torch.zeros(2, 1, 8, 8), Chain(small().diffusion.schedule.noise_schedule(T)).at(STEPS[:2])
    for sees in (True, False):
        small(diffusion={"noise_conditioning": sees}).diffusion.ask(network, x_t, STEPS[:2], at)
    assert [t.tolist() for t in shown] == [[1, 2], [0, 0]]
    with pytest.raises(UserError, match="noise_conditioning: false"):
        small(diffusion={"noise_conditioning": False, "loss": {"name": "shortcut"}})
