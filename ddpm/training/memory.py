"""What training takes of memory, told before it starts."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from ddpm.base.errors import UserError
from ddpm.compute import devices
from ddpm.compute.distributed import Ranks
from ddpm.model import architecture
from ddpm.training.settings import TrainingConfig

MIB = 2**20
USABLE = 0.85  # of a GPU's free memory; kernels' workspaces and fragments take the rest


@dataclass(frozen=True)
class Memory:
    """Bytes. ``parameters``, ``gradients``, ``optimizer`` (AdamW's two moments) and ``ema`` depend on the network
    alone; ``activations`` are what one image's forward pass keeps for the backward pass, in the precision of training.
    """

    parameters: int
    gradients: int
    optimizer: int
    ema: int
    activations: int

    def total(self, images: int) -> int:
        """Of a step on ``images``."""
        return self.parameters + self.gradients + self.optimizer + self.ema + images * self.activations

    def facts(self, images: int) -> dict[str, Any]:
        """What metrics/train.json says: weights, and MiB by kind and in total of a step on ``images``."""
        parts = asdict(self) | {"activations": images * self.activations, "total": self.total(images)}
        return {
            "parameters": self.parameters // torch.float32.itemsize,
            "memory_mib": {name: round(size / MIB, 2) for name, size in parts.items()},
        }


def estimate(config: TrainingConfig, device: torch.device) -> Memory:
    """From the params alone: the network is built, and sees one image of zeros."""
    network = architecture.build(config).train().to(device)
    weights = sum(parameter.numel() * parameter.element_size() for parameter in network.parameters())
    kept: dict[int, int] = {parameter.untyped_storage().data_ptr(): 0 for parameter in network.parameters()}
    alive: list[Tensor] = []  # else an address could be given out twice

    def keep(tensor: Tensor) -> Tensor:
        alive.append(tensor)
        kept.setdefault(tensor.untyped_storage().data_ptr(), tensor.untyped_storage().nbytes())
        return tensor

    data = config.data
    x_t = torch.zeros(1, data.channels, data.image_size, data.image_size, device=device)
    dtype = devices.precision(config.train.precision, device)
    with saved_tensors_hooks(keep, lambda tensor: tensor), devices.autocast(dtype, device):
        network(x_t, torch.ones(1, dtype=torch.int64, device=device))
    casts = weights // 2 if dtype != torch.float32 else 0  # autocast's copies of the weights: kept once, not by image
    activations = max(sum(kept.values()) - casts, 0)
    return Memory(weights, weights, 2 * weights, weights, activations)


def whole_batch(config: TrainingConfig, device: torch.device, ranks: Ranks) -> int:
    """``train.batch_size``; where that is ``auto``, the largest power of two whose shares fit into the ranks' GPUs.

    Raises UserError on a CPU, which no batch fills, or when not one image fits.
    """
    chosen = config.train.batch_size
    if isinstance(chosen, int):
        return chosen
    if device.type != "cuda":
        raise UserError("train.batch_size: auto fills a GPU's memory, and this is a CPU; set a number, e.g. 64")
    fits = fitting(estimate(config, device), devices.free_memory(device))
    return ranks.size * config.train.accumulate * -ranks.largest(-fits)


def fitting(needed: Memory, free: int) -> int:
    """The largest power of two of images whose step takes at most ``USABLE`` of ``free`` bytes."""
    room = int((free * USABLE - needed.total(0)) // needed.activations)
    if room < 1:
        raise UserError(
            f"train.batch_size: auto finds no room for one image: {needed.total(1) / MIB:,.0f} MiB are needed, "
            f"{free / MIB:,.0f} are free; choose a smaller network"
        )
    return 1 << (room.bit_length() - 1)
