"""diffusers' DDPMScheduler and our ``diffusion`` section: the same chain under two sets of names.

diffusers 0.32 to 0.42, ``schedulers/scheduling_ddpm.py``, which makes its tables in float32.
"""

from __future__ import annotations

from itertools import product
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ddpm.base import variant
from ddpm.base.errors import UserError
from ddpm.diffusion.diffusion_params import Diffusion
from ddpm.diffusion.schedule import MAX_BETA, NoiseSchedule, Schedule

SAME_LOG_SNR = 5e-3  # how far float32 betas may be off in log-SNR

Prediction = Literal["epsilon", "sample", "v_prediction"]
# ours -> theirs
PREDICTIONS: dict[str, Prediction] = {"epsilon": "epsilon", "x0": "sample", "v": "v_prediction"}
# With these the scheduler visits the same steps and clips as ``ddpm sample --spacing trailing``: the only spacing that
# begins at T and has even steps, which DDIMScheduler assumes.
SAMPLING = {"clip_sample": True, "clip_sample_range": 1.0, "timestep_spacing": "trailing", "steps_offset": 0}

Beta = Annotated[float, Field(gt=0, le=MAX_BETA)]


class Scheduler(BaseModel):
    """The part of scheduler/scheduler_config.json that describes how the model was trained."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, allow_inf_nan=False)

    class_name: Literal["DDPMScheduler", "DDIMScheduler"] = Field(alias="_class_name")
    num_train_timesteps: Annotated[int, Field(ge=1, le=10_000)] = 1000
    beta_start: Beta = 1e-4
    beta_end: Beta = 0.02
    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] = "linear"
    trained_betas: tuple[Annotated[float, Field(gt=0, le=1)], ...] | None = None
    variance_type: Literal["fixed_small", "fixed_small_log", "fixed_large", "learned_range"] = "fixed_small"
    prediction_type: Prediction = "epsilon"
    rescale_betas_zero_snr: bool = False


def describe(diffusion: Diffusion) -> Scheduler:
    """The chain in diffusers' terms, by its betas. Raises UserError for what diffusers cannot express."""
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
    variance: Any = diffusion.variance.name
    return Scheduler(
        _class_name="DDPMScheduler",
        num_train_timesteps=diffusion.T,
        trained_betas=tuple(betas.tolist()),
        variance_type=variance,
        prediction_type=PREDICTIONS[name],
    )


def section(found: Scheduler, outputs: float) -> dict[str, Any]:
    """Plain values of our ``diffusion``. outputs: channels that the network outputs per channel of the image.

    The loss is not known, so a common one that fits is filled in. Raises UserError for what has no counterpart.
    """
    learned = found.variance_type == "learned_range"
    if outputs != 1 + learned:
        raise UserError(
            f"variance_type: {found.variance_type} does not go with a network of {outputs:.3g} times the image's "
            "channels; allowed: learned_range with 2 times, the fixed ones with 1"
        )
    (parameterization,) = (ours for ours, theirs in PREDICTIONS.items() if theirs == found.prediction_type)
    return {
        "T": found.num_train_timesteps,
        "schedule": _schedule(found),
        "parameterization": {"name": parameterization},
        "variance": {"name": found.variance_type.removesuffix("_log")},
        "loss": {"name": "hybrid" if learned else "simple"},
    }


def _schedule(found: Scheduler) -> dict[str, Any]:
    if found.trained_betas is not None:
        return _recognised(found.trained_betas, found.num_train_timesteps, found.rescale_betas_zero_snr)
    scale = found.num_train_timesteps / 1000  # our ends are stated for T = 1000
    ends = {"beta_start": found.beta_start * scale, "beta_end": found.beta_end * scale}
    rescaled = {"zero_terminal_snr": found.rescale_betas_zero_snr}
    if found.beta_schedule == "squaredcos_cap_v2":
        return {"name": "cosine", "cosine": rescaled}
    return {"name": found.beta_schedule, found.beta_schedule: ends | rescaled}


def _recognised(betas: tuple[float, ...], T: int, rescaled: bool) -> dict[str, Any]:
    """The schedule with default hyperparameters that has these betas. Raises UserError if none has."""
    if len(betas) != T:
        raise UserError(f"trained_betas: {len(betas)} of them for num_train_timesteps: {T}; allowed: as many")
    try:
        chain = NoiseSchedule.from_betas(np.array(betas))
        chain = chain.without_terminal_signal() if rescaled else chain
    except ValueError as error:
        raise UserError(f"trained_betas: make no chain: {error}") from error
    for name, zero_terminal_snr in product(variant.names("schedules"), (False, True)):
        spec = {"name": name, name: {"zero_terminal_snr": zero_terminal_snr}}
        schedule: Schedule = variant.build("schedules", spec, "schedule")
        try:
            ours = schedule.noise_schedule(T).log_snr
        except ValueError:
            continue  # it cannot make a chain of that length
        if np.allclose(ours, chain.log_snr, rtol=0, atol=SAME_LOG_SNR):
            return spec
    raise UserError(
        f"trained_betas: none of our schedules has them by default; allowed: {', '.join(variant.names('schedules'))}"
    )
