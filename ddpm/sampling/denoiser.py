"""A trained network as a denoiser: the one object that turns the network's output into (x_0, epsilon)."""

import copy
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ddpm.compute import devices
from ddpm.diffusion.chain import Chain
from ddpm.diffusion.coefficients import epsilon_from_x_0
from ddpm.diffusion.diffusion_params import Diffusion
from ddpm.diffusion.parameterization import Prediction
from ddpm.model.layers import Backbone, SpanEmbedding, Upsample
from ddpm.sampling.sample_params import Guidance


@dataclass(eq=False)
class Denoiser:
    """``denoiser(x_t, t, labels)``: x_t is (B, C, H, W), float32 or float64; t is the training chain's, an int or (B,)
    int64; labels are (B,) int64, or None for "no class".

    With ``clip``, x_0 is clamped to [-1, 1] and epsilon recomputed from it, so that
    x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) epsilon still holds. With ``guidance``, away from the label
    ``no_class``, t is an int. It comes before the clamp, and leaves a learned variance as it is.

    end: the s to which a flow map leads from x_t, an int; without it the estimate is a denoiser's. What leads to a
    noise level is not clamped, because its x_0 is not an image.

    contrast, mean: with a mean image, (C, H, W) in [-1, 1], the output u becomes (u - contrast m) / (1 - contrast),
    where m is the mean of the network's targets. Linear like guidance, so the order of the two does not matter.
    """

    network: Backbone
    diffusion: Diffusion
    device: torch.device
    dtype: torch.dtype
    clip: bool
    guidance: Guidance = field(default_factory=Guidance)
    no_class: int = 0
    compiled: bool = False
    contrast: float = 0.0
    mean: Tensor | None = None

    def __post_init__(self) -> None:
        self.network = round_weights(self.network, self.dtype)
        if self.compiled:  # for each size of a batch alone, of which there are few
            self.network = torch.compile(self.network, dynamic=False)  # type: ignore[assignment]
        self.chain = Chain(self.diffusion.schedule.noise_schedule(self.diffusion.T), self.device)

    @torch.inference_mode()
    def __call__(
        self, x_t: Tensor, t: int | Tensor, labels: Tensor | None = None, end: int | None = None
    ) -> Prediction:
        timesteps = t if isinstance(t, Tensor) else torch.full((len(x_t),), t, device=self.device)
        if self.guidance.acts(self.chain.schedule, t):
            prediction = self._guide(x_t, timesteps, labels)
        else:
            prediction = self.estimate(x_t, timesteps, labels, end)
        if self.clip and not end:
            x_0 = prediction.x_0.clamp(-1, 1)
            prediction = prediction._replace(x_0=x_0, epsilon=epsilon_from_x_0(x_0, x_t, self.chain.at(timesteps)))
        return prediction

    def estimate(self, x_t: Tensor, t: Tensor, labels: Tensor | None, end: int | None = None) -> Prediction:
        """From one evaluation of the network, without guidance or clamp."""
        at, diffusion = self.chain.at(t), self.diffusion
        with devices.autocast(self.dtype, self.device):
            output = diffusion.ask(self.network, x_t, t, at, labels, s=end)
        output, variance_output = diffusion.variance.split(output)
        if self.contrast and self.mean is not None:
            mean = diffusion.parameterization.target(self.mean, torch.zeros_like(self.mean), at)
            output = (output - self.contrast * mean) / (1 - self.contrast)
        return diffusion.parameterization.predict(output, x_t, at)._replace(variance_output=variance_output)

    def _guide(self, x_t: Tensor, t: Tensor, labels: Tensor | None) -> Prediction:
        """without + weight (with - without the class). Both x_0 and epsilon are linear in the output, so it is the same
        for every target, and they still add up to x_t."""
        if self.guidance.weight == 0 or labels is None:
            return self.estimate(x_t, t, None)

        def extrapolate(both: Tensor) -> Tensor:
            with_class, without = both.chunk(2)
            return torch.lerp(without, with_class, self.guidance.weight)

        both = torch.cat([labels, torch.full_like(labels, self.no_class)])  # one call for both
        x_0, epsilon, variance_output = self.estimate(torch.cat([x_t, x_t]), torch.cat([t, t]), both)
        own = None if variance_output is None else variance_output[: len(x_t)]
        return Prediction(extrapolate(x_0), extrapolate(epsilon), own)


def round_weights(network: Backbone, dtype: torch.dtype) -> Backbone:
    """The network itself for float32; otherwise a copy whose layers' weights are rounded to ``dtype`` once. Autocast,
    which remembers only weights that learn, would round them at every evaluation, to the same values.

    Two kinds of layers keep theirs: spans are embedded outside autocast, and an ``Upsample`` may add its weights first.
    """
    if dtype == torch.float32:
        return network
    rounded = copy.deepcopy(network)
    for module in rounded.modules():
        for layer in module.children():
            if isinstance(layer, nn.Conv2d | nn.Linear) and not isinstance(module, SpanEmbedding | Upsample):
                layer.to(dtype)
    return rounded
