"""From a config to its network."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from ddpm.base.errors import UserError
from ddpm.base.sections import Shape
from ddpm.compute import devices
from ddpm.diffusion.loss import Learns
from ddpm.model.layers import Backbone, SpanEmbedding
from ddpm.model.model_params import Model, ModelConfig


def network(config: ModelConfig) -> Backbone:
    """The network that ``config.model`` chooses, freshly initialised.

    Raises UserError when its shape is impossible, or its weights alone exceed the free memory.
    """
    size = torch.float32.itemsize * parameters(config)
    free = devices.free_memory(torch.device("cpu"))
    if size > free:
        raise UserError(
            f"model.{config.model.name}: its weights take {size / 2**30:,.1f} GiB, {free / 2**30:,.1f} are free; "
            "choose a smaller network"
        )
    return _network(*list_shape(config))


def parameters(config: ModelConfig) -> int:
    """How many weights the network has. Raises UserError when its shape is impossible."""
    return sum(parameter.numel() for parameter in outline(config).parameters())


def outline(config: ModelConfig) -> Backbone:
    """The network without memory for its weights. Raises UserError when its shape is impossible."""
    return sketch(*list_shape(config))


def list_shape(config: ModelConfig) -> tuple[Shape, Model, tuple[Learns, ...], int]:
    """The only parts of a config that shape a network: the images, the model, what the loss learns, and how many
    outputs the network has for each channel."""
    diffusion = config.diffusion
    return config.data.shape, config.model, tuple(diffusion.loss.learns), diffusion.variance.outputs


def sketch(image: Shape, model: Model, learns: Sequence[Learns], outputs: int) -> Backbone:
    """``outline`` from ``list_shape``."""
    try:
        with torch.device("meta"), _Uninitialised():
            return _network(image, model, learns, outputs)
    except (OverflowError, RuntimeError, TypeError) as error:
        reason = str(error).partition("\n")[0]  # the rest is torch's own stack
        raise UserError(f"model.{model.name}: no tensor has these sizes ({reason}); choose smaller") from error


class _Uninitialised(TorchFunctionMode):
    """Leaves weights as they are made: on the meta device, initialising them imports the compiler, for 2 s."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        return kwargs["tensor"] if getattr(func, "__module__", "") == nn.init.__name__ else func(*args, **kwargs)


def _network(image: Shape, model: Model, learns: Sequence[Learns], outputs: int) -> Backbone:
    try:
        network = model.architecture.network(image, outputs * image.channels, model.classes)
    except ValueError as error:
        raise UserError(f"model.{model.name}: {error}") from error
    if "flow map" in learns:
        network.span = SpanEmbedding(network.time_features)
    return network
