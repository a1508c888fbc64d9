"""The FLOPs of a training step against counts by hand."""

import pytest
from torch import zeros_like
from torch.utils.flop_counter import FlopCounterMode

from ddpm.base import variant
from ddpm.model import build, layers
from ddpm.training import flops
from tests.networks import SHAPES
from tests.small import small


def attention(tokens: int, width: int) -> int:
    """Multiplications of queries, keys and values, of their products, and of the output's layer."""
    return tokens * width * 3 * width + 2 * tokens * tokens * width + tokens * width * width


def residual(inputs: int, outputs: int, pixels: int, embedding: int = 32) -> int:
    """Two 3x3 convolutions, the layer for time, and a skip connection where the width changes."""
    skip = pixels * inputs * outputs if inputs != outputs else 0
    return 9 * pixels * outputs * (inputs + outputs) + embedding * outputs + skip


def test_the_flops_of_a_unet_are_those_counted_by_hand():
    """8x8 pixels and 8 channels, then 4x4 and 16 with attention; forward, and twice as much back, except that nothing
    needs the gradient of the image and of the time."""
    stem, first_time = 64 * 9 * 1 * 8, 8 * 32
    down = residual(8, 8, 64) + 16 * 9 * 8 * 8 + residual(8, 16, 16) + attention(16, 16)
    middle = residual(16, 16, 16) + attention(16, 16) + residual(16, 16, 16)
    up = residual(32, 16, 16) + residual(24, 16, 16) + 2 * attention(16, 16) + 64 * 9 * 16 * 16
    last = residual(24, 8, 64) + residual(16, 8, 64) + 64 * 9 * 8 * 1
    forward = first_time + 32 * 32 + stem + down + middle + up + last
    assert flops.per_image(small()) == 2 * (3 * forward - stem - first_time)


@SHAPES
@pytest.mark.parametrize("optimizer", [*variant.names("optimizers"), "muon, split"])
def test_the_products_of_an_optimizer_are_those_that_torch_counts(name, fields, optimizer, monkeypatch):
    chosen, _, split = optimizer.partition(", ")
    train = {"optimizer": {"name": chosen, **({chosen: {"split": True}} if split else {})}}
    if chosen == "schedule_free":
        train |= {"ema": {"name": "off"}, "lr_decay": "constant"}
    config = small(model={"name": name, name: fields, "classes": 3}, data={"image_size": 16}, train=train).training()
    network = build.network(config)
    for weight in network.parameters():
        weight.grad = zeros_like(weight)
    step = config.train.optimizer.over([*network.parameters()], layers.hidden_weights(network), 1e-3)
    with FlopCounterMode(display=False) as counter:
        step.step()
    passes = flops.per_image(config) * config.train.batch_size
    assert (counter.get_total_flops() > 0) is (chosen == "muon")
    # nor are the weights needed to count
    monkeypatch.setattr(build, "network", None)
    assert flops.step_flops(config) == passes + counter.get_total_flops()
