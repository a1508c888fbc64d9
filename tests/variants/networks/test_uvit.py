"""U-ViT against its published sizes, and each image's skip connections."""

import pytest
import torch

from ddpm.base.sections import Shape
from ddpm.variants.networks.uvit import UViT


@pytest.mark.parametrize(
    ("depth", "width", "heads", "image", "patch_size", "millions"),
    [(12, 512, 8, 32, 2, 44), (16, 768, 12, 64, 4, 131), (20, 1024, 16, 64, 4, 287)],
    ids=["S/2, CIFAR-10", "M/4, ImageNet 64", "L/4, ImageNet 64"],
)
def test_parameters_are_the_papers(depth, width, heads, image, patch_size, millions):
    """Without the embedding of classes that the ImageNet networks have: a millionth of each."""
    shape = UViT(depth=depth, width=width, heads=heads, patch_size=patch_size)
    with torch.device("meta"):
        network = shape.network(Shape(3, image, image), 3)
    classes = 1001 * width if image == 64 else 0
    found = sum(parameter.numel() for parameter in network.parameters()) + classes
    assert round(found / 1e6) == millions


def test_each_block_gets_the_output_of_its_mirror_image():
    """Of the blocks on the way down only the k-th reaches the k-th from the end but by the middle."""
    torch.manual_seed(0)
    network = UViT(patch_size=4, depth=6, width=16, heads=2).network(Shape(3, 8, 8), 3).eval()
    given: list[torch.Tensor] = []
    made: list[torch.Tensor] = []
    for block in network.down:
        block.register_forward_hook(lambda module, inputs, output: made.append(output))
    for block in network.up:
        block.register_forward_hook(lambda module, inputs, output: given.append(inputs[1]))
    with torch.no_grad():
        network(torch.randn(2, 3, 8, 8), torch.tensor([1, 999]))
    assert len(given) == 3
    assert all(one is other for one, other in zip(given, reversed(made), strict=True))
