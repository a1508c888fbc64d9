"""Whether bfloat16 computes the same as float32, in one network's own shapes: torch has had CPU kernels that were
wrong for some."""

from functools import cache

import torch
from torch import nn

from ddpm.compute import devices
from ddpm.model import build
from ddpm.model.model_params import ModelConfig

ALLOWED = 0.1  # of the gradient of a layer's weights: rounding to bfloat16 changes the presets' by at most 0.02
IMAGES = 4


def choose(choice: str, config: ModelConfig, device: torch.device) -> torch.dtype:
    """The dtype that ``choice`` stands for. ``auto`` is bfloat16 where the hardware computes in it and gradients are
    right, and the parameterization can do with it, otherwise float32. Times do not count: they change from run to run,
    and so would what is chosen."""
    if choice != "auto":
        chosen: torch.dtype = getattr(torch, choice)
        return chosen
    coarse = devices.has_bfloat16(device) and not config.diffusion.parameterization.needs_float32
    right = coarse and gradient_error(config, device) <= ALLOWED
    return torch.bfloat16 if right else torch.float32


@cache  # for the snapshots of a training
def gradient_error(config: ModelConfig, device: torch.device) -> float:
    """The error of bfloat16's gradient of a layer's weights, relative to float32's, of the layer where it is largest;
    nan if that is not finite. The network has random weights, because a new one's last layers are zero. Draws nothing
    from torch's own generators."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        network = build.network(config).eval()
    generator = torch.Generator().manual_seed(0)
    for weight in network.parameters():
        nn.init.normal_(weight, std=weight[0].numel() ** -0.5 if weight.ndim else 1.0, generator=generator)
    x = torch.randn(IMAGES, *config.data.shape, generator=generator).to(device)
    t = torch.linspace(1, config.diffusion.T, IMAGES, device=device).long()
    weights = [weight for weight in network.to(device).parameters() if weight.ndim > 1]
    gradients = []
    for each in (torch.float32, torch.bfloat16):
        with devices.autocast(each, device):
            output = network(x, t)
        gradients.append(torch.autograd.grad(output.float().square().mean(), weights, allow_unused=True))
    pairs = zip(*gradients, strict=True)
    errors = [(half - exact).norm() / exact.norm() for exact, half in pairs if exact is not None and exact.any()]
    return float(torch.stack(errors).max())
