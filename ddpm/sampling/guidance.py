"""How often sampling evaluates the network."""

from collections import deque

import torch
from torch import Tensor

from ddpm.diffusion.chain import Chain
from ddpm.diffusion.diffusion_params import Diffusion
from ddpm.diffusion.parameterization import Prediction
from ddpm.sampling import spacing
from ddpm.sampling.sample_params import Sample


def evaluations(options: Sample, diffusion: Diffusion) -> int:
    """Network evaluations per image (NFE): those that the sampler asks for, and the second ones of guidance."""
    schedule, guidance = diffusion.schedule.noise_schedule(diffusion.T), options.guidance
    counts = []

    def denoise(x_t: Tensor, t: int, end: int | None = None) -> Prediction:
        counts.append(2 if guidance.weight and guidance.acts(schedule, t) else 1)
        return Prediction(x_t, x_t, x_t)

    x_T = torch.zeros(1, 1, 1, 1)
    chain = Chain(schedule.respace(spacing.timesteps(schedule, options.steps, options.spacing)))
    deque(options.sampler.steps(denoise, x_T, chain, lambda t: x_T, diffusion.variance), maxlen=0)
    return sum(counts)
