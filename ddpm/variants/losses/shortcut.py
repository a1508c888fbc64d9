"""The network learns steps of any power of two, each as the two halves that it already knows. Shortcut models, Frans
et al. 2024 (arXiv:2410.12557)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from ddpm.base.tensor import Tensor
from ddpm.diffusion.flow_map import FlowMapLoss, Pair, halve, predict, sections
from ddpm.diffusion.loss import Learns, Network
from ddpm.diffusion.parameterization import Prediction

if TYPE_CHECKING:  # importing torch takes a second
    from ddpm.diffusion.batch import Batch, NoisyBatch


class Shortcut(FlowMapLoss):
    """Steps are the chain over 1, 2, 4 and so on up to 2^(halvings - 1), and begin at multiples of their length, as
    sampling with ``spacing: trailing`` visits them. One of four images learns such a step, from two of half the
    length; halves of the shortest are a denoiser's.

    Differs from the paper: the halves are the network's own, not its average's.
    """

    learns: ClassVar[tuple[Learns, ...]] = ("denoiser", "consistency", "flow map")
    every: ClassVar[int] = 4
    passes: ClassVar[float] = 2 / every

    halvings: Annotated[int, Field(ge=1, le=13)] = 7

    def times(self, batch: Batch, T: int) -> tuple[Tensor, Tensor]:
        return sections(batch.t, 2.0 ** (batch.uniform("shortcut") * self._lengths(T)).floor(), T)

    def target(self, network: Network, batch: Batch, noisy: NoisyBatch, s: Tensor) -> Pair:
        import torch

        T = len(network.chain)
        shortest = noisy.t - s <= -(-T // 2 ** (self._lengths(T) - 1))

        def step(x: Tensor, t: Tensor, s: Tensor) -> Prediction:
            return predict(network, batch, x, t, torch.where(shortest, t, s))

        return halve(network.chain, noisy, s, step)

    def _lengths(self, T: int) -> int:
        """How many lengths of steps there are: none is shorter than a step of the chain."""
        return min(self.halvings, T.bit_length())
