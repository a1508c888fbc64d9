"""The network learns steps of any power of two, each as the two halves that it already knows. Shortcut models, Frans
et al. 2024 (arXiv:2410.12557)."""

from collections.abc import Callable
from typing import Annotated, ClassVar

from pydantic import Field

from ddpm.base.tensor import Tensor
from ddpm.diffusion.flow_map import FlowMapLoss, Taught
from ddpm.diffusion.loss import Learns


class Shortcut(FlowMapLoss):
    """Steps are the chain over 1, 2, 4 and so on up to 2^(halvings - 1), and begin at multiples of their length, as
    sampling with ``spacing: trailing`` visits them. One of four images is taught such a step, by two of half the
    length; halves of the shortest are a denoiser's. The others are taught by their own x_0 and epsilon, with s = t.

    Differs from the paper: the halves are the network's own, not its average's.
    """

    learns: ClassVar[tuple[Learns, ...]] = ("denoiser", "consistency", "flow map")
    every: ClassVar[int] = 4
    passes: ClassVar[int] = 2

    halvings: Annotated[int, Field(ge=1, le=13)] = 7

    def times(self, t: Tensor, taught: Tensor, T: int, uniform: Callable[[str], Tensor]) -> tuple[Tensor, Tensor]:
        import torch

        parts = 2.0 ** (uniform("shortcut") * self._lengths(T)).floor()
        section = (t * parts / T).ceil()
        start, end = (section * T / parts).round().long(), ((section - 1) * T / parts).round().long()
        return torch.where(taught, start, t), torch.where(taught, end, t)

    def teach(self, lesson: Taught) -> tuple[Tensor, Tensor]:
        import torch

        t, s, chain = lesson.t, lesson.s, lesson.chain
        half = (t + s) // 2
        shortest = t - s <= -(-len(chain) // 2 ** (self._lengths(len(chain)) - 1))
        first = lesson.predict(lesson.x_t, t, torch.where(shortest, t, half))
        x_half = lesson.mixed(first.x_0, first.epsilon, half)
        second = lesson.predict(x_half, half.clamp(min=1), torch.where(shortest, half.clamp(min=1), s))
        one_step = (half == s)[:, None, None, None]  # of the chain: it has no half
        x_s = torch.where(one_step, x_half, lesson.mixed(second.x_0, second.epsilon, s))
        at, after = chain.at(t), chain.at(s + 1)
        sine = after.signal_prev * at.sigma - at.signal * after.sigma_prev
        x_0 = (at.sigma * x_s - after.sigma_prev * lesson.x_t) / sine
        return x_0, (after.signal_prev * lesson.x_t - at.signal * x_s) / sine

    def _lengths(self, T: int) -> int:
        """How many lengths of steps there are: none is shorter than a step of the chain."""
        return min(self.halvings, T.bit_length())
