"""The UNet of EDM2: its published size, and magnitudes that no layer changes."""

import torch
from torch import nn

from ddpm.base.sections import Shape
from ddpm.variants.networks._edm2 import Layer, balance, concatenate, silu
from tests.networks import SMALL, architecture


def test_training_keeps_the_weights_magnitude_whatever_the_optimizer_does():
    torch.manual_seed(0)
    network = architecture("edm2", **SMALL["edm2"][0]).network(Shape(3, 16, 16), 3).train()
    nn.init.ones_(network.gain)
    x, t = torch.randn(2, 3, 16, 16), torch.tensor([3, 7])
    weights = [weight for weight in network.parameters() if weight.ndim > 1]
    for weight in weights:
        nn.init.normal_(weight, std=3.0)
    alone = [weight / weight.square().mean(tuple(range(1, weight.ndim)), keepdim=True).sqrt() for weight in weights]
    made = network(x, t)
    assert all(map(torch.equal, weights, alone)), "normalised together, each has the bits that it gets alone"
    network(x, t)
    assert all(map(torch.equal, weights, alone)), "the same weights must not drift if they are used twice"
    torch.testing.assert_close(network.eval()(x, t), made)


def magnitude(x: torch.Tensor) -> float:
    return float(x.detach().square().mean().sqrt())


def test_every_part_keeps_the_magnitude():
    torch.manual_seed(0)
    a, b = torch.randn(2, 4, 64, 32, 32)
    parts = {
        "linear": Layer(64, 96)(a.movedim(1, -1)),
        "convolution": Layer(64, 96, 3)(a)[:, :, 1:-1, 1:-1],  # the padding's zeros make the border smaller
        "silu": silu(a),
        "sum": balance(a, b, 0.3),
        "joined": concatenate(a, torch.cat([b, b], dim=1)),
    }
    assert {name: round(magnitude(part), 1) for name, part in parts.items()} == dict.fromkeys(parts, 1.0)
