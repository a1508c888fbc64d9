"""Every variance in the folder lies between beta_tilde and beta."""

from functools import partial

import pytest
import torch
from diffusers import DDPMScheduler

from ddpm.base import variant
from ddpm.diffusion.chain import Chain
from ddpm.diffusion.schedule import NoiseSchedule
from tests.small import build

T = 100
PEER = DDPMScheduler(T, beta_schedule="linear", beta_end=0.2)
PEER.alphas_cumprod = torch.cumprod(1 - PEER.betas.double(), 0)  # its own are float32
CHAIN = Chain(NoiseSchedule.from_betas(PEER.betas.double().numpy()), dtype=torch.float64)
AT = CHAIN.at(torch.arange(1, T + 1))


variance = partial(build, "variances")


@pytest.mark.parametrize("name", variant.names("variances"))
def test_log_variances_are_finite_and_in_order(name):
    log_variance = variance(name).log_variance(AT)
    assert log_variance.isfinite().all()
    assert (log_variance >= AT.log_beta_tilde - 1e-12).all()
    assert (log_variance <= AT.log_beta + 1e-12).all()


def test_fixed_large_equals_diffusers_and_has_the_posteriors_variance_at_the_first_step():
    first, *_ = ours = variance("fixed_large").log_variance(AT).flatten()
    assert first == AT.log_beta_tilde[1]
    ours = ours[1:]
    theirs = torch.stack([PEER._get_variance(t, variance_type="fixed_large_log") for t in range(1, T)])
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=0)
