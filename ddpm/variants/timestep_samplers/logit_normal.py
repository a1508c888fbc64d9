"""logit(t / T) is normal: most draws are near the middle of the chain. Stable Diffusion 3, Esser et al. 2024
(arXiv:2403.03206), section 3.1."""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from ddpm.base.tensor import Tensor
from ddpm.training.timesteps import SHARES, TimestepSampler, draw_by_shares

if TYPE_CHECKING:
    import torch


class LogitNormal(TimestepSampler):
    """``uniform_share`` of the draws are uniform over t: no weight exceeds 1 / uniform_share. Stable Diffusion 3 has no
    weights, so that its density changes the objective too; here that is for the loss to say.

    On the ``rectified_flow`` chain logit(t / T) = log(sigma / signal), and ``mean`` -1.2 with ``std`` 1.2 is EDM's
    p(sigma) (Karras et al. 2022, arXiv:2206.00364, table 1).
    """

    mean: Annotated[float, Field(ge=-10, le=10)] = 0.0
    std: Annotated[float, Field(ge=0.05, le=10)] = 1.0
    uniform_share: Annotated[float, Field(gt=0, lt=1)] = 0.1

    def state(self, T: int, device: torch.device) -> dict[str, Tensor]:
        """shares: (T,) int64, in proportion to the probability of each t. Made by the CPU, for all devices alike."""
        import numpy as np
        import torch

        inner = np.arange(1, T) / T
        normal = NormalDist(self.mean, self.std)
        below = [0.0, *map(normal.cdf, np.log(inner / (1 - inner)).tolist()), 1.0]
        p = (1 - self.uniform_share) * np.diff(below) + self.uniform_share / T
        return {"shares": torch.from_numpy((p * SHARES).astype(np.int64)).to(device)}

    def draw(self, uniform: Tensor, T: int, state: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        return draw_by_shares(state["shares"], uniform)
