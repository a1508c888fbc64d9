"""In half precision, sampling rounds the weights of layers once, and draws what autocast draws, which rounds them at
each evaluation."""

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ddpm.model import build
from ddpm.model.layers import FOLDED_CHANNELS, Upsample
from ddpm.sampling.denoiser import Denoiser
from tests.networks import awake
from tests.shelves import NETWORKS
from tests.small import CPU, small

WIDE = {"base_channels": FOLDED_CHANNELS // 2, "multipliers": [1, 2], "blocks": 1, "attention_sizes": [], "groups": 4}
CASES = [*NETWORKS.items(), ("unet", WIDE)]  # whose upsampling layer adds its weights on a CPU


class Copies(TorchDispatchMode):
    """Counts the weights that are converted."""

    def __init__(self, weights: list[Tensor]):
        super().__init__()
        self.weights, self.count = {weight.data_ptr() for weight in weights}, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._to_copy.default and args[0].data_ptr() in self.weights
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("name", "fields"), CASES, ids=[*NETWORKS, "wide unet"])
def test_sampling_rounds_no_weight_at_an_evaluation_and_draws_the_same(name, fields, dtype):
    config = small(model={"name": name, name: fields, "classes": 3})
    torch.manual_seed(0)
    network = awake(build.network(config.training())).eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    denoiser = Denoiser(network, config.diffusion, CPU, dtype, clip=False)
    x_t, labels = torch.randn(2, *config.data.shape), torch.tensor([0, 3])
    summed = [layer.conv.weight for layer in denoiser.network.modules() if isinstance(layer, Upsample)]
    rounded = [weight for weight in denoiser.network.parameters() if all(weight is not one for one in summed)]
    with Copies(rounded) as copies:
        ours = denoiser(x_t, 20, labels)
    if name != "edm2":  # which normalises its weights in float32
        assert copies.count == 0
    denoiser.network = network
    theirs = denoiser(x_t, 20, labels)
    assert torch.equal(ours.x_0, theirs.x_0)
    assert torch.equal(ours.epsilon, theirs.epsilon)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())  # it belongs to others
