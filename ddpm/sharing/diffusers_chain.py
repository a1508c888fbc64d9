"""Our ``diffusion`` section as diffusers' DDPMScheduler: the same chain under another set of names.

diffusers 0.32 to 0.42, ``schedulers/scheduling_ddpm.py``, which makes its tables in float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ddpm.base.errors import UserError
from ddpm.diffusion.diffusion_params import Diffusion

PREDICTIONS = {"epsilon": "epsilon", "x0": "sample", "v": "v_prediction"}  # ours -> theirs
# With these the scheduler visits the same steps and clips as ``ddpm sample --spacing trailing``: the only spacing that
# begins at T and has even steps, which DDIMScheduler assumes.
SAMPLING = {"clip_sample": True, "clip_sample_range": 1.0, "timestep_spacing": "trailing", "steps_offset": 0}


def describe(diffusion: Diffusion) -> dict[str, Any]:
    """scheduler/scheduler_config.json: the chain by its betas. Raises UserError for what diffusers cannot express."""
    name = diffusion.parameterization.name
    if name not in PREDICTIONS:
        raise UserError(
            f"diffusion.parameterization: {name} has no counterpart in diffusers; allowed: {', '.join(PREDICTIONS)}"
        )
    betas = diffusion.schedule.noise_schedule(diffusion.T).beta
    alpha_bar = np.cumprod(1 - betas.astype(np.float32), dtype=np.float32)
    lost = np.flatnonzero(~(np.diff(alpha_bar, prepend=np.float32(1)) < 0))
    if len(lost):
        raise UserError(
            f"diffusion.schedule: {diffusion.schedule.name} has a beta_{lost[0] + 1} of {betas[lost[0]]:.1e}, lost "
            "in the float32 of diffusers; allowed: schedules in which each beta lowers a float32 alpha_bar"
        )
    return {
        "_class_name": "DDPMScheduler",
        "num_train_timesteps": diffusion.T,
        "trained_betas": betas.tolist(),
        "variance_type": diffusion.variance.name,
        "prediction_type": PREDICTIONS[name],
        **SAMPLING,
    }
