"""Every architecture keeps the contract; the UNet is the paper's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ddpm import models, variants
from ddpm.errors import UserError
from tests.small import small

# hyperparameters that make a default small enough for a test
FIELDS: dict[str, dict[str, Any]] = {
    "unet": {"base_channels": 8, "multipliers": (1, 2, 2), "blocks": 1, "attention_sizes": (4,), "groups": 4}
}
ALL = variants.names("models")


def build(name: str, size: int = 8, channels: int = 1, **fields: Any) -> nn.Module:
    torch.manual_seed(0)
    model = {"name": name, name: FIELDS.get(name, {}) | fields}
    return models.build(small(model=model, data={"image_size": size, "channels": channels}).training())


def unzeroed(network: nn.Module) -> nn.Module:
    """With random numbers where the initialisation puts zeros: all that a network can do shows."""
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(std=0.1)
    return network


def inputs(channels: int = 1, size: int = 8, batch: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, channels, size, size, generator=generator), torch.tensor([1, 20, 50])[:batch]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [8, 16])
@pytest.mark.parametrize("name", ALL)
def test_the_output_has_the_images_shape(name: str, size: int, channels: int) -> None:
    x, t = inputs(channels, size)
    output = unzeroed(build(name, size, channels))(x, t)
    assert output.shape == x.shape
    assert output.dtype == torch.float32
    assert output.isfinite().all()


@pytest.mark.parametrize("name", ALL)
def test_a_network_puts_out_as_many_channels_as_it_is_asked_for(name: str) -> None:
    architecture: models.Architecture = variants.build("models", {"name": name, name: FIELDS.get(name, {})}, "model")
    x, t = inputs(3)
    assert architecture.network(8, channels=3, outputs=6)(x, t).shape == (3, 6, 8, 8)


@pytest.mark.parametrize("name", ALL)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    network = unzeroed(build(name))
    network(*inputs()).square().sum().backward()
    idle = [key for key, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not idle


@pytest.mark.parametrize("name", ALL)
def test_a_new_network_puts_out_zeros_and_learns_all_the_same(name: str) -> None:
    network = build(name)
    output = network(*inputs())
    assert not output.any()
    (output - 1).square().sum().backward()
    assert any(p.grad is not None and p.grad.any() for p in network.parameters())


@pytest.mark.parametrize("name", ALL)
def test_bfloat16_autocast_stays_near_float32(name: str) -> None:
    network, (x, t) = unzeroed(build(name)).eval(), inputs()
    with torch.no_grad():
        exact = network(x, t)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = network(x, t)
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float(), exact, rtol=0.1, atol=0.05 * float(exact.abs().max()))


@pytest.mark.parametrize("name", ALL)
def test_in_eval_mode_an_image_depends_on_itself_and_its_timestep_alone(name: str) -> None:
    network, (x, t) = unzeroed(build(name)).eval(), inputs()
    whole = network(x, t)
    assert torch.equal(network(x, t), whole)
    torch.testing.assert_close(network(x[1:2], t[1:2]), whole[1:2], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(network(x, t.flip(0))[0], whole[0], atol=1e-3)


@pytest.mark.parametrize("name", ALL)
def test_a_seed_gives_the_same_weights_again(name: str) -> None:
    a, b = build(name).state_dict(), build(name).state_dict()
    assert all(torch.equal(a[key], b[key]) for key in a)


# --- the UNet


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_the_papers_network_has_its_number_of_parameters() -> None:
    """35.7 million for CIFAR-10, says appendix B; its code has 35,746,307."""
    paper: models.Architecture = variants.build("models", {"name": "unet"}, "model")
    with torch.device("meta"):
        assert parameters(paper.network(32, channels=3, outputs=3)) == 35_746_307


@pytest.mark.parametrize(
    ("size", "fields", "message"),
    [
        (10, {}, r"multipliers: \[1, 2, 2\] halve the image 2 times, so data\.image_size: 10 must be a multiple of 4"),
        (8, {"groups": 3}, r"groups: 3 must divide base_channels \* multiplier = 8"),
        (8, {"groups": 1, "attention_heads": 3}, r"attention_heads: 3 must divide the 16 channels"),
        (8, {"multipliers": []}, r"unet\.multipliers: \(\) is not allowed"),
        (8, {"multipliers": [1, 0]}, r"unet\.multipliers\.1: 0 is not allowed: Input should be greater than or equal"),
        (8, {"base_channels": -8}, r"unet\.base_channels: -8 is not allowed"),
        (8, {"dropout": 1.0}, r"unet\.dropout: 1\.0 is not allowed: Input should be less than 1"),
        (8, {"base_chanels": 8}, r"unet\.base_chanels: unknown key \(did you mean 'base_channels'\?\); allowed: "),
    ],
)
def test_an_impossible_shape_names_the_field(size: int, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=rf"^model\.(unet: )?{message}"):
        build("unet", size, **fields)


@pytest.mark.parametrize(
    ("fields", "attends"),
    [
        ({"attention_sizes": [4], "middle_attention": False}, 3),  # one block down, two up
        ({"attention_sizes": [8, 4], "middle_attention": True}, 7),
        ({"attention_sizes": [], "middle_attention": True}, 1),
        ({"attention_sizes": [5], "middle_attention": False}, 0),
    ],
)
def test_attention_stands_where_it_is_asked_for(fields: dict[str, Any], attends: int) -> None:
    network = build("unet", 8, **fields)
    assert sum(type(module).__name__ == "SelfAttention" for module in network.modules()) == attends


@pytest.mark.parametrize("kind", ["pixel", "channel"])
def test_dropout_acts_in_training_alone(kind: str) -> None:
    network, (x, t) = unzeroed(build("unet", dropout=0.5, dropout_kind=kind)), inputs()
    assert not torch.equal(network(x, t), network(x, t))
    network.eval()
    assert torch.equal(network(x, t), network(x, t))


def test_without_zero_init_a_new_network_puts_out_something() -> None:
    assert build("unet", zero_init=False)(*inputs()).any()
