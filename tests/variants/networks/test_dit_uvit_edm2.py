"""DiT against diffusers with the same weights; U-ViT's skip connections and fresh weights; EDM2's magnitudes."""

import pytest
import torch
from diffusers import DiTTransformer2DModel
from torch import nn

from ddpm.base.sections import Shape
from ddpm.variants.networks._dit import positions
from ddpm.variants.networks._edm2 import Layer, balance, concatenate, silu
from ddpm.variants.networks.dit import DiT
from ddpm.variants.networks.uvit import UViT
from tests.networks import SMALL, architecture


def test_diffusers_network_gives_the_same_output_from_the_same_weights():
    torch.manual_seed(0)
    shape = DiT(patch_size=2, depth=2, width=24, heads=3)
    ours = shape.network(Shape(3, 8, 8), 6).eval()
    sizes = {"in_channels": 3, "out_channels": 6, "num_layers": 2, "sample_size": 8, "num_attention_heads": 3}
    theirs = DiTTransformer2DModel(**sizes, attention_head_dim=8, num_embeds_ada_norm=1, norm_eps=1e-6).eval()
    torch.testing.assert_close(ours.positions, theirs.pos_embed.pos_embed[0].float(), rtol=1e-5, atol=1e-6)
    embedding = theirs.transformer_blocks[0].norm1.emb
    pairs = [
        (ours.patches, theirs.pos_embed.proj), (ours.time[0], embedding.timestep_embedder.linear_1),
        (ours.time[2], embedding.timestep_embedder.linear_2), (ours.modulation, theirs.proj_out_1),
        (ours.head, theirs.proj_out_2),
    ]  # fmt: skip
    for block, other in zip(ours.blocks, theirs.transformer_blocks, strict=True):
        other.norm1.emb = embedding  # theirs has one embedding per block, the paper one for all
        attention = other.attn1
        pairs += [
            (block.out, attention.to_out[0]), (block.mlp[0], other.ff.net[0].proj), (block.mlp[2], other.ff.net[2]),
            (block.modulation, other.norm1.linear),
        ]  # fmt: skip
        parts = [part.state_dict() for part in (attention.to_q, attention.to_k, attention.to_v)]
        block.qkv.load_state_dict({kind: torch.cat([part[kind] for part in parts]) for kind in parts[0]})
    for layer, other in pairs:
        layer.load_state_dict(other.state_dict())
    with torch.no_grad():
        torch.nn.init.zeros_(embedding.class_embedder.embedding_table.weight)
        # theirs puts the cosines first
        ours.time[0].weight.copy_(ours.time[0].weight.roll(128, dims=1))
    x, t = torch.randn(2, 3, 8, 8), torch.tensor([1, 999])
    expected = theirs(x, t, class_labels=torch.zeros(2, dtype=torch.long)).sample
    torch.testing.assert_close(ours(x, t), expected, rtol=1e-4, atol=1e-5)


def test_a_patchs_position_is_its_own_column_and_row():
    """As in the square, which diffusers has too."""
    square = positions(5, 5, 12).view(5, 5, 12)
    for rows, columns in ((1, 2), (3, 5), (5, 3)):
        assert torch.equal(positions(rows, columns, 12).view(rows, columns, 12), square[:rows, :columns])


def test_each_block_gets_the_output_of_its_mirror_image():
    """Of the blocks on the way down only the k-th reaches the k-th from the end but by the middle."""
    network = UViT(patch_size=4, depth=6, width=16, heads=2).network(Shape(3, 8, 8), 3).eval()
    given, made = [], []
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
    for name, part in parts.items():
        assert float(part.square().mean().sqrt()) == pytest.approx(1, abs=0.05), name
