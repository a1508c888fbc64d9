"""Networks of every architecture, small enough for a test."""

import pytest
from torch import nn

from ddpm.base import variant
from ddpm.model.architecture import Architecture

UNET = {"base_channels": 8, "multipliers": (1, 2), "blocks": 1, "attention_sizes": (8,), "groups": 4}
# the smallest shape of each architecture that has all its parts; one not listed is built with its defaults
SMALL = {
    "unet": [UNET, {**UNET, "attention_head_width": 4, "scale_shift_norm": True, "resample": "residual"}],
    "dit": [{"patch_size": 4, "depth": 2, "width": 16, "heads": 2}],
    "uvit": [{"patch_size": 4, "depth": 2, "width": 16, "heads": 2}],
    "edm2": [{"base_channels": 8, "multipliers": (1, 2), "blocks": 1, "attention_sizes": (8,), "head_width": 4}],
}
SHAPES = pytest.mark.parametrize(
    ("name", "fields"), [(name, fields) for name in variant.names("networks") for fields in SMALL.get(name, [{}])]
)


def architecture(name: str, **fields) -> Architecture:
    return variant.build("networks", {"name": name, name: fields}, "model")


def awake(module: nn.Module) -> nn.Module:
    """The network with its zero initialisation undone, as after some steps of training."""
    for parameter in module.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return module
