"""The network learns steps of any power of two, each as the two halves that it already knows. Shortcut models, Frans
et al. 2024 (arXiv:2410.12557)."""

from collections.abc import Callable
from typing import Annotated, ClassVar

from pydantic import Field

from ddpm.base.tensor import Tensor
from ddpm.diffusion.flow_map import FlowMapLoss, Taught, sections
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
        start, end = sections(t, parts, T)
        return torch.where(taught, start, t), torch.where(taught, end, t)

    def teach(self, lesson: Taught) -> tuple[Tensor, Tensor]:
        import torch

        shortest = lesson.t - lesson.s <= -(-len(lesson.chain) // 2 ** (self._lengths(len(lesson.chain)) - 1))
        return lesson.halved(lambda x, t, s: lesson.predict(x, t, torch.where(shortest, t, s)))

    def _lengths(self, T: int) -> int:
        """How many lengths of steps there are: none is shorter than a step of the chain."""
        return min(self.halvings, T.bit_length())
