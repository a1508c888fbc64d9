"""The UNet and DiT against other implementations with the same weights; U-ViT's skip connections and fresh weights;
EDM2's magnitudes."""

from itertools import zip_longest

import pytest
import torch
from diffusers import DiTTransformer2DModel, UNet2DModel
from torch import Tensor, nn
from torch.nn import functional as F

from ddpm.base.sections import Shape
from ddpm.model.layers import upsample_by_parity
from ddpm.variants.networks._dit import positions
from ddpm.variants.networks._edm2 import Layer, balance, concatenate, silu
from ddpm.variants.networks._unet import ResidualBlock, SelfAttention, UNetBlock
from ddpm.variants.networks.dit import DiT
from ddpm.variants.networks.unet import UNet
from ddpm.variants.networks.uvit import UViT
from tests.networks import SMALL, architecture, awake

PLAIN_PEER = {
    "block_out_channels": (16, 32, 32), "attention_head_dim": None,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
}  # fmt: skip
ADM_PEER = {
    "block_out_channels": (16, 32, 48), "attention_head_dim": 8, "attn_norm_num_groups": 8,
    "down_block_types": ("ResnetDownsampleBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"),
    "downsample_type": "resnet", "upsample_type": "resnet", "resnet_time_scale_shift": "scale_shift",
}  # fmt: skip
PLAIN_FIELDS = {"base_channels": 16, "groups": 8, "dropout": 0.0}
ADM_FIELDS = PLAIN_FIELDS | {"attention_head_width": 8, "scale_shift_norm": True, "resample": "residual"}


@pytest.mark.parametrize(("peer", "shape", "outputs"), [
    (PLAIN_PEER, UNet(multipliers=(1, 2, 2), attention_sizes=(8,), **PLAIN_FIELDS), 3),
    (ADM_PEER, UNet(multipliers=(1, 2, 3), attention_sizes=(8, 4), **ADM_FIELDS), 6),
])  # fmt: skip
@pytest.mark.parametrize("sides", [(16, 16), (16, 40)])
def test_diffusers_network_gives_the_same_output_from_the_same_weights(peer, shape, outputs, sides):
    torch.manual_seed(0)
    common = {"in_channels": 3, "norm_num_groups": 8, "flip_sin_to_cos": False, "freq_shift": 1}
    theirs = UNet2DModel(out_channels=outputs, **common, **peer).eval()
    ours = shape.network(Shape(3, *sides), outputs).eval()
    assert sum(each.numel() for each in ours.parameters()) == sum(each.numel() for each in theirs.parameters())
    for layer, other in [
        (ours.time[0], theirs.time_embedding.linear_1),
        (ours.time[2], theirs.time_embedding.linear_2),
        (ours.stem, theirs.conv_in),
        *zip([*ours.down, *ours.middle, *ours.up], _their_layers(theirs), strict=True),
        (ours.norm, theirs.conv_norm_out),
        (ours.head, theirs.conv_out),
    ]:
        _copy(layer, other)
    x, t = torch.randn(2, 3, *sides), torch.tensor([1, 999])
    torch.testing.assert_close(ours(x, t), theirs(x, t).sample, rtol=1e-4, atol=1e-5)


def _their_layers(peer: UNet2DModel) -> list:
    """In the forward pass' order: (residual, attention or None) pairs, and resampling layers."""
    layers = []
    for block in [*peer.down_blocks, peer.mid_block, *peer.up_blocks]:
        layers += zip_longest(block.resnets, getattr(block, "attentions", []))
        layers += getattr(block, "downsamplers", None) or getattr(block, "upsamplers", None) or []
    return layers


def _copy(ours: nn.Module, theirs) -> None:
    """Copy their weights into ours."""
    if isinstance(ours, UNetBlock):
        residual, attention = theirs
        _copy(ours.residual, residual)
        if attention is not None:
            _copy(ours.attention, attention)
    elif isinstance(ours, ResidualBlock):
        layers = {"norm1": "norm_1", "conv1": "conv_1", "norm2": "norm_2", "conv2": "conv_2"}
        ours.load_state_dict(_renamed(theirs, {**layers, "time_emb_proj": "time", "conv_shortcut": "skip"}))
    elif isinstance(ours, SelfAttention):
        state = _renamed(theirs, {"group_norm": "norm", "to_out.0": "out"})
        for kind in ("weight", "bias"):
            state[f"qkv.{kind}"] = torch.cat([state.pop(f"to_{part}.{kind}") for part in "qkv"])
        ours.load_state_dict(state)
    else:
        ours.load_state_dict(theirs.state_dict())


def _renamed(module: nn.Module, names: dict[str, str]) -> dict[str, Tensor]:
    state = module.state_dict()
    for theirs, ours in names.items():
        state = {key.replace(f"{theirs}.", f"{ours}."): value for key, value in state.items()}
    return state


def test_dropout_kinds_drop_pixels_or_whole_channels():
    torch.manual_seed(0)
    x = torch.ones(4, 8, 6, 6)
    for kind, whole in (("pixel", False), ("channel", True)):
        shape = UNet(base_channels=8, groups=4, dropout=0.5, dropout_kind=kind)
        block = ResidualBlock(shape, 8, 8, torch.nn.Identity())
        dropped = (block.dropout(x) == 0).flatten(2)
        assert dropped.any()
        assert torch.equal(dropped.any(2), dropped.all(2)) == whole
        assert torch.equal(block.eval().dropout(x), x)


def test_patches_are_the_images_pixels_as_channels():
    """A network on patches equals the plain one with the same weights, on the image with its pixels as channels."""
    shape = {"base_channels": 8, "multipliers": (1, 2), "blocks": 1, "attention_sizes": (), "groups": 4}
    patched = awake(UNet(patch_size=2, **shape).network(Shape(1, 16, 16), 2)).eval()
    plain = UNet(**shape).network(Shape(4, 8, 8), 8).eval()
    plain.load_state_dict(patched.state_dict())
    x_t, t = torch.randn(2, 1, 16, 16), torch.tensor([3, 9])
    expected = F.pixel_shuffle(plain(F.pixel_unshuffle(x_t, 2), t), 2)
    torch.testing.assert_close(patched(x_t, t), expected)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (8, 8)])
def test_upsampling_by_parity_is_upsampling_then_convolution(size):
    shapes = (2, 3, *size), (5, 3, 3, 3), (5,)
    parts = x, weight, bias = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    plain = F.conv2d(F.interpolate(x, scale_factor=2.0, mode="nearest"), weight, bias, padding=1)
    folded = upsample_by_parity(x, weight, bias)
    torch.testing.assert_close(folded, plain)
    gradients = [torch.autograd.grad(out.square().sum(), parts) for out in (folded, plain)]
    torch.testing.assert_close(*gradients)


def test_diffusers_dit_gives_the_same_output_from_the_same_weights():
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
