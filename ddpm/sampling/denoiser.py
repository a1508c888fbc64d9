"""A trained network as a denoiser: the one object that turns the network's output into (x_0, epsilon)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ddpm.compute import devices
from ddpm.diffusion.chain import Chain
from ddpm.diffusion.coefficients import epsilon_from_x_0
from ddpm.diffusion.parameterization import Prediction
from ddpm.diffusion.settings import Diffusion


class Denoiser:
    """``denoiser(x_t, t)``: x_t is (B, C, H, W), float32 or float64; t is the training chain's, an int or (B,) int64.

    With ``clip``, x_0 is clamped to [-1, 1] and epsilon recomputed from it, so that
    x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) epsilon still holds.
    """

    def __init__(self, network: nn.Module, diffusion: Diffusion, device: torch.device, dtype: torch.dtype, clip: bool):
        self.network = network
        self.parameterization = diffusion.parameterization
        self.variance = diffusion.variance
        self.chain = Chain(diffusion.schedule.noise_schedule(diffusion.T), device)
        self.device = device
        self.dtype = dtype
        self.clip = clip

    @torch.inference_mode()
    def __call__(self, x_t: Tensor, t: int | Tensor) -> Prediction:
        return self.differentiable(x_t, t)

    def differentiable(self, x_t: Tensor, t: int | Tensor) -> Prediction:
        """The same as a call, with derivatives by x_t where they are asked for."""
        timesteps = t if isinstance(t, Tensor) else torch.full((len(x_t),), t, device=self.device)
        at = self.chain.at(timesteps)
        seen = self.parameterization.seen(x_t, at)
        with devices.autocast(self.dtype, self.device):
            output, variance_output = self.variance.split(self.network(seen, timesteps).float())
        x_0, epsilon, _ = self.parameterization.predict(output, x_t, at)
        if self.clip:
            x_0 = x_0.clamp(-1, 1)
            epsilon = epsilon_from_x_0(x_0, x_t, at)
        return Prediction(x_0, epsilon, variance_output)
