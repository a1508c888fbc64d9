"""Every variance in the folder lies between beta_tilde and beta; the learned one agrees with diffusers."""

from functools import partial

import pytest
import torch
from diffusers import DDPMScheduler

from ddpm.base import variant
from ddpm.diffusion.chain import Chain
from ddpm.diffusion.schedule import NoiseSchedule
from ddpm.model import build as model
from tests.small import TINY, build, small

T = 100
PEER = DDPMScheduler(T, beta_schedule="linear", beta_end=0.2, variance_type="learned_range")
PEER.alphas_cumprod = torch.cumprod(1 - PEER.betas.double(), 0)  # its own are float32
CHAIN = Chain(NoiseSchedule.from_betas(PEER.betas.double().numpy()), dtype=torch.float64)
AT = CHAIN.at(torch.arange(1, T + 1))


variance = partial(build, "variances")


@pytest.mark.parametrize("name", variant.names("variances"))
def test_log_variances_are_finite_and_in_order(name):
    chosen = variance(name)
    prediction, variance_output = chosen.split(torch.zeros(T, 3 * chosen.outputs, 2, 2, dtype=torch.float64))
    assert prediction.shape == (T, 3, 2, 2)
    assert (variance_output is None) == (chosen.outputs == 1)
    log_variance = chosen.log_variance(AT, variance_output)
    assert log_variance.isfinite().all()
    assert (log_variance >= AT.log_beta_tilde - 1e-12).all()
    assert (log_variance <= AT.log_beta + 1e-12).all()


@pytest.mark.parametrize("name", variant.names("variances"))
def test_the_network_has_twice_the_channels_only_if_it_learns_the_variance(name):
    config = small(diffusion={"variance": {"name": name}, "loss": {"name": "vlb"}}, model=TINY).training()
    output = model.network(config)(torch.zeros(2, 1, 8, 8), torch.tensor([1, 2]))
    assert output.shape[1] == (2 if name == "learned_range" else 1)


def test_fixed_large_equals_diffusers_and_has_the_posteriors_variance_at_the_first_step():
    first, *_ = ours = variance("fixed_large").log_variance(AT).flatten()
    assert first == AT.log_beta_tilde[1]
    ours = ours[1:]
    theirs = torch.stack([PEER._get_variance(t, variance_type="fixed_large_log") for t in range(1, T)])
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=0)


def test_the_ends_of_the_learned_range_are_the_fixed_variances():
    """But fixed_large has beta_tilde_2 at t = 1, where the range reaches up to beta_1."""
    low, high = (variance("learned_range").log_variance(AT, torch.full_like(AT.sigma, v)) for v in (-1, 1))
    torch.testing.assert_close(low, variance("fixed_small").log_variance(AT), rtol=1e-14, atol=0)
    torch.testing.assert_close(high[1:], variance("fixed_large").log_variance(AT)[1:], rtol=1e-14, atol=0)
    torch.testing.assert_close(high[0], AT.log_beta[0], rtol=1e-14, atol=0)


@pytest.mark.parametrize("t", [2, 50, 100])
def test_the_learned_range_equals_diffusers(t):
    """The first half of the output is the prediction, and the range goes on beyond its ends."""
    output = torch.linspace(-1.5, 1.5, 24, dtype=torch.float64).view(1, 6, 2, 2)
    _, variance_output = variance("learned_range").split(output)
    ours = variance("learned_range").log_variance(CHAIN.at(torch.tensor([t])), variance_output)
    theirs = PEER._get_variance(t - 1, predicted_variance=output.split(3, dim=1)[1])
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=0)
