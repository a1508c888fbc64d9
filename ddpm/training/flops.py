"""How many floating-point operations a training step takes, counted without running it."""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch.utils.flop_counter import FlopCounterMode

from ddpm.base.sections import Shape
from ddpm.diffusion.loss import Learns
from ddpm.model import build, layers
from ddpm.model.model_params import Model, ModelConfig
from ddpm.training.optimizer import Matrices
from ddpm.training.train_params import TrainingConfig


def per_image(config: ModelConfig) -> int:
    """Operations of the network's forward and backward pass for one image of training, and of the forward passes that
    the loss needs besides; a multiplication and an addition counted as two.

    Counted are convolutions, matrix products and attention, which are nearly everything, as an ordinary training does
    them: without recomputation, and whatever kernel runs. The optimizer's few operations per weight are left out.
    Raises UserError when the network's shape is impossible.
    """
    forward, both, _ = _count(*build.list_shape(config))
    return round(both + forward * config.diffusion.loss.passes)


def step_flops(config: TrainingConfig) -> int:
    """The operations of a training step: of the network, forward and backward, and of the optimizer's matrix products,
    which Muon has. Raises UserError when the network's shape is impossible."""
    *_, hidden = _count(*build.list_shape(config))
    return per_image(config) * config.train.batch_size + config.train.optimizer.flops(hidden)


@lru_cache(maxsize=64)  # a search trains the same few networks in hundreds of ways
def _count(image: Shape, model: Model, learns: Sequence[Learns], outputs: int) -> tuple[int, int, Matrices]:
    """Operations for one image, of the forward pass and of both passes; and the weights of inner layers."""
    network = build.sketch(image, model, learns, outputs).train()
    x = torch.empty(1, *image, device="meta")
    t = torch.ones(1, dtype=torch.int64, device="meta")
    labels = torch.zeros_like(t) if model.classes else None
    with FlopCounterMode(display=False) as counter:
        output = network(x, t, labels)
        forward = counter.get_total_flops()
        output.sum().backward()
    hidden = layers.hidden_weights(network).items()
    shapes = [(parts, len(weight) // parts, weight[0].numel()) for weight, parts in hidden]
    return forward, counter.get_total_flops(), shapes
