"""Guidance: what a model's estimates are led away from, and what that costs."""

from collections import deque
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ddpm.base.errors import UserError
from ddpm.base.files import sha256
from ddpm.diffusion.chain import Chain
from ddpm.diffusion.diffusion_params import Diffusion
from ddpm.diffusion.parameterization import Prediction
from ddpm.diffusion.schedule import Array
from ddpm.model.model_file import Loaded, load_model
from ddpm.model.model_params import ModelConfig
from ddpm.sampling import spacing
from ddpm.sampling.denoiser import Denoiser, Guide
from ddpm.sampling.sample_params import Guidance, Sample


def guide(model: Loaded, options: Guidance, device: torch.device, dtype: torch.dtype) -> Guide | None:
    """For ``sample.guidance``; None if it changes nothing.

    Raises UserError when ``model`` has no classes, or was never trained without them, and no other model is to guide
    it; or when that other file is missing or not of ``options.sha256``, or its images, chain or classes differ.
    """
    if options.weight == 1:
        return None
    classes = model.config.model.classes
    if reason := options.impossible(classes, model.written.get("train", {}).get("label_dropout")):
        raise UserError(reason)
    if options.model is None:
        return Guide(options, classes)
    worse = load_worse(model.config, options, device)
    return Guide(options, Denoiser(worse.network, worse.config.diffusion, device, dtype, clip=False))


def load_worse(model: ModelConfig, options: Guidance, device: torch.device) -> Loaded:
    """The file ``options.model``. Raises UserError when it cannot guide a model of this config, or is another file."""
    path = Path(str(options.model))
    worse = load_model(path, device)
    if (digest := sha256(path)) != options.sha256:
        raise UserError(f"sample.guidance.sha256: {options.sha256} is not that of {path}, which is {digest}")
    ours, theirs, classes = model.diffusion, worse.config.diffusion, worse.config.model.classes
    if worse.image_shape != model.data.shape:
        reason = f"draws images of {tuple(worse.image_shape)}, the model of {tuple(model.data.shape)}"
    elif ours.T != theirs.T or not np.array_equal(_levels(ours), _levels(theirs)):
        reason = f"has the chain {_chain(theirs)}, the model {_chain(ours)}"
    elif classes not in (0, model.model.classes):
        reason = f"has {classes} classes, the model {model.model.classes}"
    else:
        return worse
    raise UserError(
        f"sample.guidance.model: {path} {reason}; allowed: a model of the same image shape, chain and classes"
    )


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


def _levels(diffusion: Diffusion) -> Array:
    return diffusion.schedule.noise_schedule(diffusion.T).log_snr


def _chain(diffusion: Diffusion) -> str:
    return f"{diffusion.schedule.name} of T = {diffusion.T}"
