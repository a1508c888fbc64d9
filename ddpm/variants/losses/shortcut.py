"""The network learns steps of any power of two, each as the two halves that it already knows. Shortcut models, Frans
et al. 2024 (arXiv:2410.12557)."""

from typing import Annotated, ClassVar

from pydantic import Field

from ddpm.base.tensor import Tensor
from ddpm.diffusion.batch import Batch, NoisyBatch
from ddpm.diffusion.flow_maps import FlowMapLoss, Pair, mix, predict
from ddpm.diffusion.loss import Learns, Network


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
        """Start and end of the step that t lies in, of a length drawn for each image."""
        parts = 2.0 ** (batch.draws.uniform("shortcut") * self._lengths(T)).floor()
        section = (batch.t * parts / T).ceil()
        return (section * T / parts).round().long(), ((section - 1) * T / parts).round().long()

    def target(self, network: Network, batch: Batch, noisy: NoisyBatch, s: Tensor) -> Pair:
        import torch

        chain, x_t, t, at = network.chain, noisy.x_t, noisy.t, noisy.at
        shortest = t - s <= -(-len(chain) // 2 ** (self._lengths(len(chain)) - 1))

        def step(x: Tensor, t: Tensor, s: Tensor) -> Tensor:
            return mix(network, predict(network, batch, x, t, torch.where(shortest, t, s)), s)

        half, end = (t + s) // 2, chain.at(s + 1)
        x_half = step(x_t, t, half)
        x_s = step(x_half, half.clamp(min=1), s)
        x_s = torch.where((half == s)[:, None, None, None], x_half, x_s)  # a step of the chain has no half
        sine = end.signal_prev * at.sigma - at.signal * end.sigma_prev
        return (at.sigma * x_s - end.sigma_prev * x_t) / sine, (end.signal_prev * x_t - at.signal * x_s) / sine

    def _lengths(self, T: int) -> int:
        """How many lengths of steps there are: none is shorter than a step of the chain."""
        return min(self.halvings, T.bit_length())
