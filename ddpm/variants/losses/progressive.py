"""The network learns to take in one step what the model that it starts from takes in two. Progressive distillation,
Salimans & Ho 2022 (arXiv:2202.00512), Algorithm 2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from ddpm.base.tensor import Tensor
from ddpm.diffusion.flow_map import FlowMapLoss, Pair, halve, sections
from ddpm.diffusion.loss import Network

if TYPE_CHECKING:  # importing torch takes a second
    from ddpm.diffusion.batch import Batch, NoisyBatch


class Progressive(FlowMapLoss):
    """Needs ``train.start_from``. The network is for sampling by ddim in ``steps`` steps, ``spacing: trailing`` and
    ``clip_denoised: false``, and can be the start of a training for half as many. The first model to start from is a
    denoiser, and good in twice as many steps.

    The error is that of the network's output: of v, it has the paper's weight "SNR + 1" on x_0.
    """

    needs_teacher: ClassVar[bool] = True
    passes: ClassVar[float] = 2.0

    steps: Annotated[int, Field(ge=1, le=4096)] = 8

    def times(self, batch: Batch, T: int) -> tuple[Tensor, Tensor]:
        return sections(batch.t, self.steps, T)

    def target(self, network: Network, batch: Batch, noisy: NoisyBatch, s: Tensor) -> Pair:
        return halve(network.chain, noisy, s, lambda x, t, s: network.teacher(batch, x, t))
