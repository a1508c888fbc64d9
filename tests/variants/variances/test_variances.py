"""Every variance in the folder lies between the two fixed ones; the learned one agrees with diffusers."""

import pytest
import torch
from diffusers import DDPMScheduler

from ddpm.base import variant
from ddpm.diffusion.chain import Chain
from ddpm.diffusion.coefficients import Coefficients
from ddpm.diffusion.schedule import NoiseSchedule
from ddpm.diffusion.variance import Variance

T = 100
PEER = DDPMScheduler(T, beta_schedule="linear", beta_end=0.2, variance_type="learned_range")
PEER.alphas_cumprod = torch.cumprod(1 - PEER.betas.double(), 0)  # its own are float32


def variance(name: str) -> Variance:
    return variant.build("variances", {"name": name}, "diffusion.variance")


@pytest.fixture
def at() -> Coefficients:
    chain = Chain(NoiseSchedule.from_betas(PEER.betas.double().numpy()), dtype=torch.float64)
    return chain.at(torch.arange(1, T + 1))


@pytest.mark.parametrize("name", variant.names("variances"))
def test_log_variances_are_finite_and_in_order(name, at):
    chosen = variance(name)
    output = torch.zeros(T, 3, 2, 2, dtype=torch.float64) if chosen.outputs == 2 else None
    log_variance = chosen.log_variance(output, at)
    assert log_variance.isfinite().all()
    assert (log_variance >= at.log_beta_tilde - 1e-12).all()
    assert (log_variance <= at.log_beta + 1e-12).all()


@pytest.mark.parametrize("name", variant.names("variances"))
def test_the_networks_output_is_split_as_the_variance_needs(name):
    chosen = variance(name)
    prediction, variance_output = chosen.split(torch.arange(2.0 * 3 * chosen.outputs).view(2, -1, 1, 1))
    assert prediction.shape == (2, 3, 1, 1)
    assert prediction[1, 0, 0, 0] == 3 * chosen.outputs
    assert (variance_output is None) == (chosen.outputs == 1)


def test_learned_ranges_ends_are_the_fixed_variances(at):
    """At v = 0 and 1; but fixed_large has beta_tilde_2 at t = 1, where the range reaches up to beta_1."""
    low, high = (
        variance("learned_range").log_variance(torch.full((T, 1, 1, 1), v, dtype=torch.float64), at) for v in (-1, 1)
    )
    torch.testing.assert_close(low, variance("fixed_small").log_variance(None, at), rtol=1e-14, atol=0)
    torch.testing.assert_close(high[1:], variance("fixed_large").log_variance(None, at)[1:], rtol=1e-14, atol=0)
    torch.testing.assert_close(high[0], at.log_beta[0], rtol=1e-14, atol=0)


@pytest.mark.parametrize("t", [2, 50, 100])
def test_learned_range_equals_diffusers(t, at):
    output = torch.linspace(-1.5, 1.5, 12, dtype=torch.float64).view(1, 3, 2, 2)
    ours = variance("learned_range").log_variance(output, Coefficients(*(value[t - 1] for value in at)))
    theirs = PEER._get_variance(t - 1, predicted_variance=output)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=0)


def test_fixed_large_equals_diffusers_and_has_the_posteriors_variance_at_the_first_step(at):
    first, *_ = ours = variance("fixed_large").log_variance(None, at).flatten()
    assert first == at.log_beta_tilde[1]
    ours = ours[1:]
    theirs = torch.stack([PEER._get_variance(t, variance_type="fixed_large_log") for t in range(1, T)])
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=0)
