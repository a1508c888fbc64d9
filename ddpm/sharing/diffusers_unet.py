"""``ddpm.variants.networks.unet`` as diffusers' UNet2DModel: one network under another set of names.

Its t runs over 0..T-1, ours over 1..T: the sinusoids of 1..T become its table of time embeddings, so that every weight
stays as it is, bit for bit. diffusers 0.32 to 0.42, ``models/unets/unet_2d.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ddpm.base.errors import UserError
from ddpm.base.sections import Shape
from ddpm.model.layers import sinusoidal_embedding
from ddpm.variants.networks.unet import UNet

TABLE = "time_proj.weight"  # (T, base_channels), of a "learned" time embedding

# our layers -> theirs: at the ends of the network, and inside a residual block or an attention; the names of layers
# not listed differ only by an underscore
ENDS = {
    "time.0": "time_embedding.linear_1",
    "time.2": "time_embedding.linear_2",
    "classes": "class_embedding",
    "stem": "conv_in",
    "norm": "conv_norm_out",
    "head": "conv_out",
}
INNER = {
    "time": ["time_emb_proj"],
    "skip": ["conv_shortcut"],
    "norm": ["group_norm"],
    "qkv": ["to_q", "to_k", "to_v"],
    "out": ["to_out.0"],
}


def describe(shape: UNet, image: Shape, outputs: int, T: int, classes: int) -> dict[str, Any]:
    """unet/config.json of the UNet2DModel that computes the same as ``shape.network``. The last of its class embeddings
    is "no class". Raises UserError for an option that it lacks.
    """
    if shape.patch_size > 1:
        raise UserError(f"model.unet.patch_size: {shape.patch_size} has no counterpart in UNet2DModel; allowed: 1")
    if shape.multipliers[0] > 1:
        raise UserError(
            f"model.unet.multipliers: {list(shape.multipliers)}: the first level of UNet2DModel has base_channels; "
            "allowed: those that begin with 1"
        )
    attends = [image.height >> level in shape.attention_sizes for level in range(len(shape.multipliers))]
    residual = shape.resample == "residual"
    resampling = "resnet" if residual else "conv"
    plain = "Resnet{}sampleBlock2D" if residual else "{}Block2D"
    down = ["AttnDownBlock2D" if attention else plain.format("Down") for attention in attends]
    up = ["AttnUpBlock2D" if attention else plain.format("Up") for attention in attends[::-1]]
    return {
        "_class_name": "UNet2DModel",
        "sample_size": image.image_size,
        "in_channels": image.channels,
        "out_channels": outputs,
        "time_embedding_type": "learned",
        "time_embedding_dim": shape.base_channels * shape.time_multiple,
        "freq_shift": 1,
        "flip_sin_to_cos": False,
        "down_block_types": down,
        "up_block_types": up,
        "block_out_channels": [shape.base_channels * multiplier for multiplier in shape.multipliers],
        "layers_per_block": shape.blocks,
        "downsample_type": resampling,
        "upsample_type": resampling,
        "dropout": shape.dropout,
        "attention_head_dim": _head_width(shape, attends),
        "norm_num_groups": shape.groups,
        "attn_norm_num_groups": shape.groups,
        "resnet_time_scale_shift": "scale_shift" if shape.scale_shift_norm else "default",
        "add_attention": shape.middle_attention,
        "num_class_embeds": classes + 1 if classes else None,
        "num_train_timesteps": T,
    }


def _head_width(shape: UNet, attends: list[bool]) -> int | None:
    """Channels of each head, the same on all levels; None: one head with all channels."""
    if shape.attention_head_width or shape.attention_heads == 1:
        return shape.attention_head_width
    multipliers = [m for m, attention in zip(shape.multipliers, attends, strict=True) if attention]
    multipliers += [shape.multipliers[-1]] * shape.middle_attention
    widths = sorted({shape.base_channels * multiplier // shape.attention_heads for multiplier in multipliers})
    if len(widths) > 1:
        raise UserError(
            f"model.unet.attention_heads: {shape.attention_heads} makes heads of {' and '.join(map(str, widths))} "
            "channels, UNet2DModel's are equally wide on all levels; allowed: 1, or attention_head_width in its place"
        )
    return widths[0] if widths else None


def weights(ours: Mapping[str, Tensor], shape: UNet, T: int) -> dict[str, Tensor]:
    """UNet2DModel's state from our network's state."""
    theirs = {TABLE: sinusoidal_embedding(torch.arange(1, T + 1), shape.base_channels)}
    for key, tensor in ours.items():
        names = _names(key, shape)
        theirs |= {name: part.clone() for name, part in zip(names, tensor.chunk(len(names)), strict=True)}
    return theirs


def _names(key: str, shape: UNet) -> list[str]:
    """The diffusers names of our weight ``key``: one, or three to be joined along the first axis."""
    module, _, kind = key.rpartition(".")
    if module in ENDS:
        return [f"{ENDS[module]}.{kind}"]
    way, index, *inside, leaf = module.split(".")  # such as down.3.residual.conv_1, or the resampling down.4.conv
    part = {"residual": "resnets", "attention": "attentions"}[inside[0]] if inside else f"{way}samplers"
    if way == "middle":
        path = f"mid_block.{part}.{index}"
    else:  # each level but the last has its blocks, one more on the way up, and a resampling layer
        level, block = divmod(int(index), shape.blocks + 1 + (way == "up"))
        path = f"{way}_blocks.{level}.{part}.{block if inside else 0}"
    return [f"{path}.{name}.{kind}" for name in INNER.get(leaf, [leaf.replace("_", "")])]
