"""How many floating-point operations a training step takes, counted without running it."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from ddpm.model import build, layers
from ddpm.model.model_params import ModelConfig
from ddpm.training.train_params import TrainingConfig


def per_image(config: ModelConfig) -> int:
    """Operations of the network's forward and backward pass for one image of training, and of the forward passes that
    the loss needs besides; a multiplication and an addition counted as two.

    Counted are convolutions, matrix products and attention, which are nearly everything, as an ordinary training does
    them: without recomputation, and whatever kernel runs. The optimizer's few operations per weight are left out.
    Raises UserError when the network's shape is impossible.
    """
    network = build.outline(config).train()
    image = torch.empty(1, *config.data.shape, device="meta")
    t = torch.ones(1, dtype=torch.int64, device="meta")
    labels = torch.zeros_like(t) if config.model.classes else None
    with FlopCounterMode(display=False) as counter:
        output = network(image, t, labels)
        forward = counter.get_total_flops()
        output.sum().backward()
    return round(counter.get_total_flops() + forward * config.diffusion.loss.passes)


def step_flops(config: TrainingConfig) -> int:
    """The operations of a training step: of the network, forward and backward, and of the optimizer's matrix products,
    which Muon has. Raises UserError when the network's shape is impossible."""
    passes, network = per_image(config) * config.train.batch_size, build.network(config)
    weights = list(network.parameters())
    for weight in weights:
        weight.grad = torch.zeros_like(weight)
    optimizer = config.train.optimizer.over(weights, layers.hidden_weights(network), config.train.learning_rate)
    with FlopCounterMode(display=False) as counter:
        optimizer.step()
    return passes + int(counter.get_total_flops())
