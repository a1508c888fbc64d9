"""The network learns to take in one step what the model that it starts from takes in two. Progressive distillation,
Salimans & Ho 2022 (arXiv:2202.00512), Algorithm 2."""

from collections.abc import Callable
from typing import Annotated, ClassVar

from pydantic import Field

from ddpm.base.tensor import Tensor
from ddpm.diffusion.flow_map import FlowMapLoss, Taught, sections


class Progressive(FlowMapLoss):
    """Needs ``train.start_from``. The network is for sampling by ddim in ``steps`` steps, ``spacing: trailing`` and
    ``clip_denoised: false``, and can be the start of a training for half as many. The first model to start from is a
    denoiser, and good in twice as many steps.

    The error is that of the network's output: of v, it has the paper's weight "SNR + 1" on x_0.
    """

    needs_teacher: ClassVar[bool] = True
    passes: ClassVar[int] = 2

    steps: Annotated[int, Field(ge=1, le=4096)] = 8

    def times(self, t: Tensor, taught: Tensor, T: int, uniform: Callable[[str], Tensor]) -> tuple[Tensor, Tensor]:
        return sections(t, self.steps, T)

    def teach(self, lesson: Taught) -> tuple[Tensor, Tensor]:
        return lesson.halved(lambda x, t, s: lesson.teacher(x, t))
