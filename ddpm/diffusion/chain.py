"""The chain's constants on a device, and the terms of its bound, in the notation of Ho et al. 2020 (arXiv:2006.11239).

Images are (B, C, H, W) in about [-1, 1]; constants of the chain are (B, 1, 1, 1), float32 unless x is float64.
"""

import numpy as np
import torch
from torch import Tensor

from ddpm.diffusion.coefficients import Coefficients, posterior_mean
from ddpm.diffusion.schedule import NoiseSchedule


class Chain:
    """A NoiseSchedule's constants as one table on a device: looking up a batch's t is one gather, without a sync."""

    def __init__(self, schedule: NoiseSchedule, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32):
        self.schedule = schedule
        self.table = torch.stack([*_constants(schedule)], dim=1).to(device, dtype)

    def __len__(self) -> int:
        return len(self.schedule)

    @property
    def noise_levels(self) -> Tensor:
        """sigma / signal of each step, (len(self),), rising."""
        constants = Coefficients._make(self.table.unbind(dim=1))
        return constants.sigma / constants.signal

    def timestep(self, step: int) -> int:
        """The training chain's t at ``step``, 1..len(self)."""
        return int(self.schedule.timesteps[step - 1])

    def at_step(self, step: int) -> Coefficients:
        """Constants at one ``step``, (1, 1, 1, 1) each."""
        return coefficients(self.table[step - 1 : step])

    def at(self, step: Tensor) -> Coefficients:
        """Constants at ``step``, (B,) int64 in 1..len(schedule)."""
        return coefficients(self.table[step - 1])


def coefficients(rows: Tensor) -> Coefficients:
    """Rows of a chain's table, (B, constants), as (B, 1, 1, 1) each."""
    return Coefficients._make(rows.T[..., None, None, None].unbind())


def _constants(schedule: NoiseSchedule) -> Coefficients:
    """(S,) float64 each."""
    stand_in = schedule.beta_tilde[1:2] if len(schedule) > 1 else schedule.beta
    constants = {
        "alpha_bar": schedule.alpha_bar,
        "signal": np.sqrt(schedule.alpha_bar),
        "sigma": np.sqrt(schedule.one_minus_alpha_bar),
        "signal_prev": np.sqrt(schedule.alpha_bar_prev),
        "sigma_prev": np.sqrt(schedule.one_minus_alpha_bar_prev),
        "log_beta": np.log(schedule.beta),
        "log_beta_tilde": np.log(np.concatenate([stand_in, schedule.beta_tilde[1:]])),
        "posterior_x_0": np.sqrt(schedule.alpha_bar_prev) * schedule.beta / schedule.one_minus_alpha_bar,
        "posterior_x_t": np.sqrt(schedule.alpha) * schedule.one_minus_alpha_bar_prev / schedule.one_minus_alpha_bar,
    }
    return Coefficients(**{name: torch.from_numpy(values) for name, values in constants.items()})


def normal_kl(mean_1: Tensor, log_variance_1: Tensor, mean_2: Tensor, log_variance_2: Tensor) -> Tensor:
    """KL(N_1 || N_2) in nats, elementwise: the terms L_{t-1} and L_T of equation 5."""
    ratio = torch.exp(log_variance_1 - log_variance_2)
    distance = (mean_1 - mean_2).square() * torch.exp(-log_variance_2)
    return 0.5 * (log_variance_2 - log_variance_1 + ratio + distance - 1)


def discretized_log_likelihood(x_0: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """log p(x_0 | x_1) in nats, elementwise: the mass of N(mean, variance) within 1/255 of x_0, equation 13.

    x_0 is one of the 256 levels in [-1, 1]; the outermost bins reach to infinity, so the levels' masses sum to 1.
    """
    precision = torch.exp(-0.5 * log_variance)
    below, above = (x_0 - mean - 1 / 255) * precision, (x_0 - mean + 1 / 255) * precision
    # bins above the mean are mirrored to below it: Phi keeps its precision in the lower tail, not in the upper one
    mirrored = below + above > 0
    lower, upper = torch.where(mirrored, -above, below), torch.where(mirrored, -below, above)
    log_upper = torch.special.log_ndtr(upper)
    gap = (torch.special.log_ndtr(lower) - log_upper).clamp(max=-1e-12)
    inner = log_upper + torch.log(-torch.expm1(gap))
    lowest, highest = torch.special.log_ndtr(above), torch.special.log_ndtr(-below)
    return torch.where(x_0 < -0.999, lowest, torch.where(x_0 > 0.999, highest, inner))


def bound_term(x_0: Tensor, x_t: Tensor, mean: Tensor, log_variance: Tensor, at: Coefficients) -> Tensor:
    """Equation 5's term at t in nats, elementwise, for p(x_{t-1} | x_t) with ``mean`` and ``log_variance``.

    L_{t-1} = KL(q(x_{t-1} | x_t, x_0) || p) for t > 1; L_0 = -log p(x_0 | x_1) for t = 1. Never negative.
    """
    divergence = normal_kl(posterior_mean(x_0, x_t, at), at.log_beta_tilde, mean, log_variance)
    return torch.where(at.sigma_prev == 0, -discretized_log_likelihood(x_0, mean, log_variance), divergence)


def prior_kl(x_0: Tensor, at: Coefficients) -> Tensor:
    """L_T = KL(q(x_T | x_0) || N(0, I)) of equation 5 in nats, elementwise; ``at`` is the last step's."""
    zero = torch.zeros_like(at.sigma)
    return normal_kl(at.signal * x_0, 2 * at.sigma.log(), zero, zero)


def to_images(x: Tensor) -> Tensor:
    """[-1, 1] floats to uint8, rounded to the nearest level and clamped."""
    return ((x.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def from_images(images: Tensor) -> Tensor:
    """uint8 to float32 in [-1, 1]."""
    return images.to(torch.float32, copy=True).div_(127.5).sub_(1)
