"""How a params file sets up the UNet: impossible shapes are refused by name, the rest is where it should be."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ddpm.model import build
from tests.models.test_contract import awake
from tests.small import small

FIELDS = {"base_channels": 8, "multipliers": (1, 2, 2), "blocks": 1, "attention_sizes": (4,), "groups": 4}


def small_network(size: int = 8, **fields: Any) -> nn.Module:
    torch.manual_seed(0)
    model = {"name": "unet", "unet": FIELDS | fields}
    return build.network(small(model=model, data={"image_size": size}).training())


def inputs() -> tuple[Tensor, Tensor]:
    return torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(1)), torch.tensor([1, 20, 50])


@pytest.mark.parametrize(
    ("fields", "attends"),
    [
        ({"attention_sizes": [4], "middle_attention": False}, 3),  # one block down, two up
        ({"attention_sizes": [8, 4], "middle_attention": True}, 7),
        ({"attention_sizes": [], "middle_attention": True}, 1),
        ({"attention_sizes": [], "middle_attention": False}, 0),
    ],
)
def test_attention_stands_where_it_is_asked_for(fields, attends):
    network = small_network(8, **fields)
    assert sum(type(module).__name__ == "SelfAttention" for module in network.modules()) == attends


@pytest.mark.parametrize("kind", ["pixel", "channel"])
def test_dropout_acts_in_training_alone(kind):
    network, (x, t) = awake(small_network(dropout=0.5, dropout_kind=kind)), inputs()
    assert not torch.equal(network(x, t), network(x, t))
    network.eval()
    assert torch.equal(network(x, t), network(x, t))


def test_without_zero_init_a_new_network_puts_out_something():
    assert small_network(zero_init=False)(*inputs()).any()
