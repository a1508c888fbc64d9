"""``auto`` is bfloat16 where the hardware has it and where it is right, in this network's shapes; and in half precision
sampling rounds the weights of layers once."""

import pytest
import torch
import torch.nn.functional as F

from ddpm.base import variant
from ddpm.model import build, precision
from ddpm.model.layers import FOLDED_CHANNELS
from ddpm.model.model_file import Loaded
from ddpm.sampling.denoiser import Denoiser
from ddpm.sampling.generator import Generator
from ddpm.training.trainer import Trainer
from tests.networks import awake
from tests.shelves import NETWORKS
from tests.small import CPU, pictures, small

AUTO = {"train": {"precision": "auto"}, "sample": {"precision": "auto"}}


@pytest.fixture(autouse=True)
def hardware_has_bfloat16(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    precision.gradient_error.cache_clear()


@pytest.fixture
def wrong(monkeypatch):
    """Convolutions in bfloat16 are wrong, as some kernels were for some shapes."""
    conv2d = F.conv2d

    def convolve(x, weight, *rest, **more):
        gain = 1.5 if torch.is_autocast_enabled("cpu") and weight.shape[-1] == 3 else 1.0
        return conv2d(x, weight * gain, *rest, **more)

    monkeypatch.setattr(torch.nn.functional, "conv2d", convolve)


def chosen(config):
    network = build.network(config.training()).eval()
    generator = Generator.of(Loaded(network, config.training(), {}), config.sample, CPU)
    return Trainer(config.training(), pictures(), CPU).student.dtype, generator.denoiser.dtype


@pytest.mark.parametrize("name", variant.names("networks"))
def test_every_network_agrees_by_far(name):
    config = small(model={"name": name, name: NETWORKS[name]}).training()
    assert 0 < precision.gradient_error(config, CPU) < precision.ALLOWED / 2


def test_auto_is_bfloat16_where_it_is_right():
    assert chosen(small(**AUTO)) == (torch.bfloat16, torch.bfloat16)
    mean = small(diffusion={"parameterization": {"name": "mean"}}, **AUTO)
    assert chosen(mean) == (torch.float32, torch.float32)  # which needs more digits, however right they are


def test_auto_is_float32_where_bfloat16_is_wrong(wrong):
    assert chosen(small(**AUTO)) == (torch.float32, torch.float32)
    half = small(train={"precision": "bfloat16"}, sample={"precision": "bfloat16"})
    assert chosen(half) == (torch.bfloat16, torch.bfloat16)  # whoever asks for it gets it


WIDE = {"base_channels": FOLDED_CHANNELS // 2, "multipliers": [1, 2], "blocks": 1, "attention_sizes": [], "groups": 4}
CASES = [*NETWORKS.items(), ("unet", WIDE)]  # whose upsampling layer adds its weights on a CPU


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("name", "fields"), CASES, ids=[*NETWORKS, "wide unet"])
def test_sampling_with_rounded_weights_draws_the_same(name, fields, dtype):
    """As autocast does, which rounds them at each evaluation."""
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
