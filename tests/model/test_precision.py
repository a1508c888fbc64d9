"""``auto``: bfloat16 where the hardware has it and where it is right, in this network's shapes."""

import pytest
import torch
import torch.nn.functional as F

from ddpm.base import variant
from ddpm.model import build, precision
from ddpm.model.model_file import Loaded
from ddpm.sampling.generator import Generator
from ddpm.training.trainer import Trainer
from tests.shelves import NETWORKS
from tests.small import CPU, pictures, small

AUTO = small(train={"precision": "auto"}, sample={"precision": "auto"})


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
    assert chosen(AUTO) == (torch.bfloat16, torch.bfloat16)
    mean = small(
        diffusion={"parameterization": {"name": "mean"}}, **{key: {"precision": "auto"} for key in ("train", "sample")}
    )
    assert chosen(mean) == (torch.float32, torch.float32)  # which needs more digits, however right they are


def test_auto_is_float32_where_bfloat16_is_wrong(wrong):
    assert chosen(AUTO) == (torch.float32, torch.float32)
    half = small(train={"precision": "bfloat16"}, sample={"precision": "bfloat16"})
    assert chosen(half) == (torch.bfloat16, torch.bfloat16)  # whoever asks for it gets it
