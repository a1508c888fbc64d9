"""In half precision, sampling rounds the weights of layers once, and draws what autocast draws, which rounds them at
each evaluation."""

import pytest
import torch

from ddpm.model import build
from ddpm.model.layers import FOLDED_CHANNELS
from ddpm.sampling.denoiser import Denoiser
from tests.networks import awake
from tests.shelves import NETWORKS
from tests.small import CPU, small

WIDE = {"base_channels": FOLDED_CHANNELS // 2, "multipliers": [1, 2], "blocks": 1, "attention_sizes": [], "groups": 4}
CASES = [*NETWORKS.items(), ("unet", WIDE)]  # whose upsampling layer adds its weights on a CPU


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("name", "fields"), CASES, ids=[*NETWORKS, "wide unet"])
def test_sampling_with_rounded_weights_draws_the_same(name, fields, dtype):
    config = small(model={"name": name, name: fields, "classes": 3})
    torch.manual_seed(0)
    network = awake(build.network(config.training())).eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    denoiser = Denoiser(network, config.diffusion, CPU, dtype, clip=False)
    x_t, labels = torch.randn(2, *config.data.shape), torch.tensor([0, 3])
    ours = denoiser(x_t, 20, labels)
    denoiser.network = network
    theirs = denoiser(x_t, 20, labels)
    assert torch.equal(ours.x_0, theirs.x_0)
    assert torch.equal(ours.epsilon, theirs.epsilon)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())  # it belongs to others
