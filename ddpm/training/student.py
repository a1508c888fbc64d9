"""The network that learns, as losses ask it: ``ddpm.diffusion.loss.Network``."""

import torch
from torch import Tensor, nn

from ddpm.compute import devices
from ddpm.compute.distributed import Ranks
from ddpm.diffusion.batch import Batch
from ddpm.diffusion.chain import Chain
from ddpm.diffusion.coefficients import Coefficients
from ddpm.model import build, precision
from ddpm.model.layers import dropout_layers, recompute_blocks
from ddpm.training import teacher
from ddpm.training.train_params import TrainingConfig


class Student:
    """network: on the device, in its layout; ``forward`` runs it, compiled and data-parallel where that is asked for.
    augmented: the layer that shows it how images were augmented, which is in no average and no model file. facts: of
    ``train.start_from``, for the model file."""

    def __init__(self, config: TrainingConfig, device: torch.device, ranks: Ranks):
        options, diffusion = config.train, config.diffusion
        self.diffusion, self.parameterization, self.variance = diffusion, diffusion.parameterization, diffusion.variance
        self.device, self.dtype = device, precision.choose(options.precision, config, device)
        self.chain = Chain(diffusion.schedule.noise_schedule(diffusion.T), device)
        self.layout = torch.channels_last if options.channels_last else torch.contiguous_format
        network = build.network(config).train().to(device)
        self.network = network.to(memory_format=self.layout)  # type: ignore[call-overload, unused-ignore]  # torch < 2.15
        self.facts = teacher.start(self.network, config, ranks.main)
        if options.checkpoint_activations:
            recompute_blocks(self.network)
        compiled = devices.compiles(device) if options.compile == "auto" else options.compile
        # the exchange of gradients is inside what is compiled, so that it overlaps with the backward pass
        forward = ranks.parallel(self.network)
        self.forward: nn.Module = torch.compile(forward) if compiled else forward  # type: ignore[assignment]
        layer = options.augmentation.layer(self.network.time_features)
        self.augmented = layer.to(device) if layer else None
        self.dropout = dropout_layers(self.network)

    def __call__(
        self, batch: Batch, x: Tensor, t: Tensor, at: Coefficients, s: Tensor | None = None, precise: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        for layer, keys in zip(self.dropout.values(), batch.dropout.unbind(1), strict=True):
            layer.keys = keys
        augmented = None if self.augmented is None or batch.condition is None else self.augmented(batch.condition)
        span = None if s is None else self.network.embed_span(self.diffusion.loss.clock(t - s, self.diffusion.T))
        condition = span if augmented is None else augmented if span is None else augmented + span
        # without a gradient nothing is averaged over ranks, and these may ask unequally often
        forward, x = self.forward if torch.is_grad_enabled() else self.network, x.contiguous(memory_format=self.layout)
        with devices.autocast(torch.float32 if precise else self.dtype, self.device):
            return self.diffusion.run(forward, x, t, at, batch.labels, condition)
