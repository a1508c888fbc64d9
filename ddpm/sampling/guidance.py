"""Guidance of a model, and what it costs."""

from collections import deque

import torch
from torch import Tensor

from ddpm.base.errors import UserError
from ddpm.diffusion.chain import Chain
from ddpm.diffusion.diffusion_params import Diffusion
from ddpm.diffusion.parameterization import Prediction
from ddpm.model.model_file import Loaded
from ddpm.sampling import spacing
from ddpm.sampling.denoiser import Guide
from ddpm.sampling.sample_params import Guidance, Sample


def guide(model: Loaded, options: Guidance) -> Guide | None:
    """For ``sample.guidance``; None if it changes nothing.

    Raises UserError when ``model`` has no classes, or was never trained without them.
    """
    if options.weight == 1:
        return None
    classes = model.config.model.classes
    if reason := options.impossible(classes, model.written.get("train", {}).get("label_dropout")):
        raise UserError(reason)
    return Guide(options, classes)


def evaluations(options: Sample, diffusion: Diffusion) -> int:
    """Network evaluations per image (NFE): those of the sampler, and the second ones of guidance."""
    count = options.sampler.evaluations(options.steps)
    if options.guidance.weight in (0, 1):
        return count
    schedule = diffusion.schedule.noise_schedule(diffusion.T)
    visited = []

    def denoise(x_t: Tensor, t: int) -> Prediction:
        visited.append(t)
        return Prediction(x_t, x_t, x_t)

    x_T = torch.zeros(1, 1, 1, 1)
    chain = Chain(schedule.respace(spacing.timesteps(schedule, options.steps, options.spacing)))
    deque(options.sampler.steps(denoise, x_T, chain, lambda t: x_T, diffusion.variance), maxlen=0)
    return count + sum(options.guidance.acts(schedule, t) for t in visited)
