"""A mixture's closed forms against dense ones; then it is the truth that samplers and losses meet."""

import pytest
import torch

from ddpm.compute import noise
from tests.peers import exact

PLANE = exact.pictured(3, (1, 1, 2), ratio=0.6)
PICTURES = exact.pictured(5, (3, 3, 4), ratio=0.8)


@pytest.mark.parametrize("truth", [PLANE, PICTURES], ids=["plane", "pictures"])
def test_posteriors_are_those_of_torchs_dense_normals(truth):
    signal, sigma = 0.8, 0.6
    x_t, means = noise.gaussian(0, "x", torch.arange(20), 0, truth.shape).double(), truth.means.flatten(1)
    pixels = means.shape[1]
    noisy = signal**2 * truth.covariances() + sigma**2 * torch.eye(pixels)
    offset = x_t.flatten(1)[:, None] - signal * means
    log_joint = torch.distributions.MultivariateNormal(0 * means, noisy).log_prob(offset) + truth.weights.log()
    torch.testing.assert_close(truth.class_posterior(x_t, signal, sigma), log_joint.softmax(1))
    gains = signal * truth.covariances() @ torch.linalg.inv(noisy)
    of_classes = means + torch.einsum("kde,bke->bkd", gains, offset)
    whole = torch.einsum("bk,bkd->bd", log_joint.softmax(1), of_classes)
    torch.testing.assert_close(truth.posterior_mean(x_t, signal, sigma).flatten(1), whole)
