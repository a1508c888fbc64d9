"""U-ViT against its published sizes, and each image's skip connections."""

import pytest
import torch
from torch import nn

from ddpm.base.sections import Shape
from ddpm.variants.networks.uvit import UViT


def test_each_block_gets_the_output_of_its_mirror_image():
    """Of the blocks on the way down only the k-th reaches the k-th from the end but by the middle."""
    network = UViT(patch_size=4, depth=6, width=16, heads=2).network(Shape(3, 8, 8), 3).eval()
    given: list[torch.Tensor] = []
    made: list[torch.Tensor] = []
    for block in network.down:
        block.register_forward_hook(lambda module, inputs, output: made.append(output))
    for block in network.up:
        block.register_forward_hook(lambda module, inputs, output: given.append(inputs[1]))
    network(torch.randn(2, 3, 8, 8), torch.tensor([1, 999]))
    assert len(given) == 3
    assert all(one is other for one, other in zip(given, reversed(made), strict=True))


@pytest.mark.parametrize(("init", "scaled"), [("auto", True), ("scaled", True), ("authors", False)])
def test_a_narrow_network_starts_scaled_unless_the_authors_weights_are_asked_for(init, scaled):
    """The authors' are N(0, 0.02^2) for layers and positions, whatever the width, and N(0, 1) for classes."""
    torch.manual_seed(0)
    network = UViT(depth=2, width=64, heads=2, init=init).network(Shape(1, 16, 16), 2, classes=9)
    for layer in network.modules():
        if isinstance(layer, nn.Linear):
            assert layer.weight.std().item() == pytest.approx(layer.in_features**-0.5 if scaled else 0.02, rel=0.1)
    assert network.positions.std().item() == pytest.approx(1 if scaled else 0.02, rel=0.1)
    assert network.classes.weight.std().item() == pytest.approx(1, rel=0.1)
    image = torch.randn(1, 2, 16, 16)
    assert torch.equal(network.smooth(image), image) == scaled
