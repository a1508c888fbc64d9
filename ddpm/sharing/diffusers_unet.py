"""diffusers' UNet2DModel and ``ddpm.variants.networks.unet``: one network under two sets of names.

``describe`` is the one table of what maps to what: an imported shape is described again and compared.

Its t runs over 0..T-1, ours over 1..T. An export makes the sinusoids of 1..T its table of time embeddings, so that
every weight stays as it is, bit for bit. In an import, diffusers' sinusoids of t - 1 are ours of t, rotated by each
frequency: the first time layer absorbs that rotation. diffusers 0.32 to 0.42, ``models/unets/unet_2d.py``.
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from ddpm.base import variant
from ddpm.base.errors import UserError
from ddpm.base.sections import Channels, ImageSize, Shape
from ddpm.model.layers import sinusoidal_embedding
from ddpm.variants.networks.unet import UNet

TABLE = "time_proj.weight"  # (T, base_channels), of a "learned" time embedding
TABLE_ERROR = 1e-3  # of a sine at t = 10,000 in another machine's float32
# keys that the weights account for, and one that only training uses
NOT_SHAPE = {"time_embedding_type", "flip_sin_to_cos", "num_train_timesteps", "dropout"}

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

Size = Annotated[int, Field(ge=1, le=2**20)]
DownBlock = Literal["DownBlock2D", "AttnDownBlock2D", "ResnetDownsampleBlock2D"]
UpBlock = Literal["UpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"]


class UNet2D(BaseModel):
    """unet/config.json, with the defaults of UNet2DModel. ``sample_size`` is the images' side, or height and width."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    class_name: Literal["UNet2DModel"] = Field(alias="_class_name")
    sample_size: ImageSize
    in_channels: Channels = 3
    out_channels: Size = 3
    center_input_sample: bool = False
    time_embedding_type: Literal["positional", "learned"] = "positional"
    time_embedding_dim: Size | None = None
    freq_shift: float = 0
    flip_sin_to_cos: bool = True
    down_block_types: tuple[DownBlock, ...] = ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D")
    mid_block_type: str | None = "UNetMidBlock2D"
    up_block_types: tuple[UpBlock, ...] = ("AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D")
    block_out_channels: Annotated[tuple[Size, ...], Field(min_length=1, max_length=9)] = (224, 448, 672, 896)
    layers_per_block: Size = 2
    mid_block_scale_factor: float = 1
    downsample_padding: int = 1
    downsample_type: Literal["conv", "resnet"] = "conv"
    upsample_type: Literal["conv", "resnet"] = "conv"
    dropout: float = 0.0
    act_fn: str = "silu"
    attention_head_dim: Size | None = 8
    norm_num_groups: Size = 32
    attn_norm_num_groups: Size | None = None
    norm_eps: float = 1e-5
    resnet_time_scale_shift: Literal["default", "scale_shift"] = "default"
    add_attention: bool = True
    class_embed_type: str | None = None
    num_class_embeds: Size | None = None
    num_train_timesteps: Annotated[int, Field(ge=1, le=10_000)] | None = None


def describe(shape: UNet, image: Shape, outputs: int, T: int, classes: int = 0) -> UNet2D:
    """The UNet2DModel that computes the same as ``shape.network``. Raises UserError for an option that it lacks.

    The last of its class embeddings is "no class".
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
    resampling: Any = "resnet" if residual else "conv"
    plain = "Resnet{}sampleBlock2D" if residual else "{}Block2D"
    down: list[Any] = ["AttnDownBlock2D" if attention else plain.format("Down") for attention in attends]
    up: list[Any] = ["AttnUpBlock2D" if attention else plain.format("Up") for attention in attends[::-1]]
    return UNet2D(
        _class_name="UNet2DModel",
        sample_size=image.image_size,
        in_channels=image.channels,
        out_channels=outputs,
        time_embedding_type="learned",
        time_embedding_dim=shape.base_channels * shape.time_multiple,
        freq_shift=1,
        flip_sin_to_cos=False,
        down_block_types=tuple(down),
        up_block_types=tuple(up),
        block_out_channels=tuple(shape.base_channels * multiplier for multiplier in shape.multipliers),
        layers_per_block=shape.blocks,
        downsample_type=resampling,
        upsample_type=resampling,
        dropout=shape.dropout,
        attention_head_dim=_head_width(shape, attends),
        norm_num_groups=shape.groups,
        attn_norm_num_groups=shape.groups,
        resnet_time_scale_shift="scale_shift" if shape.scale_shift_norm else "default",
        add_attention=shape.middle_attention,
        num_class_embeds=classes + 1 if classes else None,
        num_train_timesteps=T,
    )


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


def shape_of(found: UNet2D) -> UNet:
    """The shape for which ``describe`` returns ``found``. Raises UserError for the first key without a counterpart."""
    base, *_ = widths = found.block_out_channels
    if wrong := [width for width in widths if width % base]:
        raise UserError(f"block_out_channels: {wrong[0]} is not a multiple of the first, {base}, as in model.unet")
    time_width = found.time_embedding_dim or 4 * base
    complete = found.model_copy(
        update={
            "time_embedding_dim": time_width,
            "freq_shift": found.freq_shift if found.time_embedding_type == "positional" else 1,
            # if the blocks add the time embedding, the middle attention has as many groups as they have
            "attn_norm_num_groups": found.attn_norm_num_groups
            or (found.norm_num_groups if found.resnet_time_scale_shift == "default" else None),
        }
    )
    image = Shape.of(found.in_channels, found.sample_size)
    levels = enumerate(found.down_block_types)
    block = {
        "base_channels": base,
        "multipliers": tuple(width // base for width in widths),
        "blocks": found.layers_per_block,
        "attention_sizes": tuple(image.height >> level for level, kind in levels if kind.startswith("Attn")),
        "attention_heads": 1,
        "attention_head_width": found.attention_head_dim,
        "middle_attention": found.add_attention,
        "scale_shift_norm": found.resnet_time_scale_shift == "scale_shift",
        "resample": "residual" if found.downsample_type == "resnet" else "conv",
        "groups": found.norm_num_groups,
        "time_multiple": max(time_width // base, 1),
        "dropout": found.dropout,
    }
    shape: UNet = variant.build("networks", {"name": "unet", "unet": block}, "model")
    T = found.num_train_timesteps or 1
    ours = describe(shape, image, found.out_channels, T)
    if keys := differing(complete, ours, NOT_SHAPE):
        key = keys[0]
        raise UserError(
            f"{key}: {getattr(complete, key)!r} has no counterpart in model.unet; allowed: {getattr(ours, key)!r}"
        )
    return shape


def differing(one: BaseModel, other: BaseModel, but_for: Container[str] = ()) -> list[str]:
    """Names of the fields with different values."""
    fields = [field for field in type(one).model_fields if field not in but_for]
    return [field for field in fields if getattr(one, field) != getattr(other, field)]


def weights_out(ours: Mapping[str, Tensor], shape: UNet, T: int) -> dict[str, Tensor]:
    """UNet2DModel's state from our network's state, or its outline from our outline."""
    theirs = {TABLE: sinusoidal_embedding(torch.arange(1, T + 1), shape.base_channels)}
    for key, tensor in ours.items():
        names = _names(key, shape)
        theirs |= {name: part.clone() for name, part in zip(names, tensor.chunk(len(names)), strict=True)}
    return theirs


def weights_in(
    theirs: Mapping[str, Tensor], found: UNet2D, shape: UNet, outline: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Our network's state, float32, from UNet2DModel's. ``outline`` has our names and shapes, on any device.

    Raises UserError for weights that are missing, not in the config, or of a different shape.
    """
    learned = found.time_embedding_type == "learned"
    expected = weights_out(outline, shape, found.num_train_timesteps or 0)
    sines = expected[TABLE] if learned else expected.pop(TABLE)
    for names, what in ((expected.keys() - theirs.keys(), "missing"), (theirs.keys() - expected.keys(), "too many")):
        if names:
            first, more = variant.shown(min(names)), len(names) - 1
            raise UserError(f"weights that are {what} for its config: {first} and {more} more")
    for name, tensor in theirs.items():
        if tensor.shape != (size := expected[name].shape) or not tensor.is_floating_point():
            raise UserError(
                f"{name}: {tensor.dtype} {tuple(tensor.shape)} is not allowed: its config asks for floats {tuple(size)}"
            )
    state = {key: torch.cat([theirs[name].float() for name in _names(key, shape)]) for key in outline}
    if not learned:
        state["time.0.weight"] = _rotated(state["time.0.weight"], found.flip_sin_to_cos)
    elif not torch.allclose(theirs[TABLE].float(), sines, rtol=0, atol=TABLE_ERROR):
        raise UserError(f"{TABLE}: a table that was trained has no counterpart in model.unet; allowed: sinusoids of t")
    return state


def _rotated(weight: Tensor, cosines_first: bool) -> Tensor:
    """The first time layer's weight for sinusoids of t, from its weight for sinusoids of t - 1.

    With w a frequency, sin(wt - w) = sin(wt) cos(w) - cos(wt) sin(w), cos(wt - w) = cos(wt) cos(w) + sin(wt) sin(w).
    """
    half = weight.shape[1] // 2
    sines, cosines, rest = weight.double().split([half, half, weight.shape[1] % 2], dim=1)
    if cosines_first:
        sines, cosines = cosines, sines
    frequency = torch.exp(torch.arange(half).double() * (-math.log(10_000) / max(half - 1, 1)))
    sin, cos = frequency.sin(), frequency.cos()
    return torch.cat([sines * cos + cosines * sin, cosines * cos - sines * sin, rest], dim=1).float()


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
