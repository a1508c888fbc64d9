"""The UNet against published parameter counts and against other implementations with the same weights."""

from itertools import zip_longest

import pytest
import torch
from diffusers import UNet2DModel
from torch import Tensor, nn
from torch.nn import functional as F

from ddpm.base.sections import Shape
from ddpm.model.layers import upsample_by_parity
from ddpm.variants.networks._unet import ResidualBlock, SelfAttention, UNetBlock
from ddpm.variants.networks.unet import UNet
from tests.networks import awake

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
SMALL = {"base_channels": 16, "groups": 8, "dropout": 0.0}
SMALL_ADM = SMALL | {"attention_head_width": 8, "scale_shift_norm": True, "resample": "residual"}


@pytest.mark.parametrize(("peer", "shape", "outputs"), [
    (PLAIN_PEER, UNet(multipliers=(1, 2, 2), attention_sizes=(8,), **SMALL), 3),
    (ADM_PEER, UNet(multipliers=(1, 2, 3), attention_sizes=(8, 4), **SMALL_ADM), 6),
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
