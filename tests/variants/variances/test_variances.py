"""Every variance in the folder lies between beta_tilde and beta; the samplers' tests compare each with diffusers."""

import pytest
import torch

from ddpm.base import variant
from ddpm.diffusion.chain import Chain
from tests.small import build

T = 100
AT = Chain(build("schedules", "linear").noise_schedule(T), dtype=torch.float64).at(torch.arange(1, T + 1))


@pytest.mark.parametrize("name", variant.names("variances"))
def test_log_variances_are_finite_and_in_order(name):
    chosen = build("variances", name)
    prediction, variance_output = chosen.split(torch.zeros(T, 3 * chosen.outputs, 2, 2, dtype=torch.float64))
    assert prediction.shape == (T, 3, 2, 2)
    assert (variance_output is None) == (chosen.outputs == 1)
    log_variance = chosen.log_variance(AT, variance_output)
    assert log_variance.isfinite().all()
    assert (log_variance >= AT.log_beta_tilde - 1e-12).all()
    assert (log_variance <= AT.log_beta + 1e-12).all()
    if name == "fixed_large":
        assert log_variance[0] == AT.log_beta_tilde[1], "the posterior's at the first step, as in the paper's code"
