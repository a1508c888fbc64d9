"""The network learns the image that the ODE leads to, by agreeing with itself at a lower noise level of the same image
and noise: consistency training without a teacher. ECT, Geng et al. 2024 (arXiv:2406.14548)."""

from typing import Annotated, ClassVar

from pydantic import Field

from ddpm.base.sections import Share
from ddpm.base.tensor import Tensor
from ddpm.diffusion.batch import Batch, NoisyBatch
from ddpm.diffusion.coefficients import epsilon_from_x_0
from ddpm.diffusion.flow_maps import FlowMapLoss, Pair, mix, predict
from ddpm.diffusion.loss import Learns, Network

K = 8.0  # near the image the gap is up to 1 + K / 2 times as long


class Consistency(FlowMapLoss):
    """At t the network learns what it says itself at r < t, which comes closer to t in ``stages`` equal parts of the
    training: in sigma / signal, r / t = 1 - (1 + K sigmoid(-t)) / q^stage. Where that is below the chain, the image
    itself is the truth, so the first stage is nearly a denoiser's training.

    Differs from the paper: the error is that of the network's output, by which the parameterization weights the noise
    levels, in place of 1 / (t - r) on x_0; pseudo-Huber's c is iCT's 0.00054 (Song & Dhariwal 2023, arXiv:2310.14189),
    squared, for the mean over pixels; r is a step of the chain.
    """

    learns: ClassVar[tuple[Learns, ...]] = ("consistency",)

    passes: ClassVar[float] = 1.0
    c: ClassVar[float] = 0.00054**2

    power: Share = 0.5
    stages: Annotated[int, Field(ge=1, le=64)] = 8
    q: Annotated[float, Field(gt=1, le=256)] = 2.0

    def times(self, batch: Batch, T: int) -> tuple[Tensor, Tensor]:
        return batch.t, batch.t.new_zeros(batch.t.shape)

    def target(self, network: Network, batch: Batch, noisy: NoisyBatch, s: Tensor) -> Pair:
        import torch

        t, levels = noisy.t, network.chain.noise_levels
        level = levels[t - 1]
        done = (batch.draws.step - 1) / network.total
        gap = self.q ** -(1 + int(done * self.stages)) * (1 + K * torch.sigmoid(-level))
        wanted = level * (1 - gap).clamp(min=0)
        r = torch.searchsorted(levels, wanted, right=True).minimum(t - 1)  # the last step that is at most so noisy
        known = predict(network, batch, mix(network, noisy, r), r.clamp(min=1), s).x_0
        image = torch.where((r == 0)[:, None, None, None], noisy.x_0, known)
        return image, epsilon_from_x_0(image, noisy.x_t, noisy.at)
