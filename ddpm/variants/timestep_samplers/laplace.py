"""t / T follows a Laplace distribution, cut to the chain: draws pile up at one t, with long tails. Hang et al. 2024
(arXiv:2407.03297) put it over log SNR; over t is our own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from ddpm.base.tensor import Tensor
from ddpm.training.timesteps import SHARES, TimestepSampler, draw_by_shares

if TYPE_CHECKING:
    import torch


class Laplace(TimestepSampler):
    """Most draws are near t / T = ``mu``, and more so for smaller ``b``. ``uniform_share`` of them are uniform over t:
    no weight exceeds 1 / uniform_share."""

    mu: Annotated[float, Field(ge=0, le=1)] = 0.5
    b: Annotated[float, Field(ge=0.01, le=10)] = 0.2
    uniform_share: Annotated[float, Field(gt=0, lt=1)] = 0.1

    def state(self, T: int, device: torch.device) -> dict[str, Tensor]:
        """shares: (T,) int64, in proportion to the probability of each t. Made by the CPU, for all devices alike."""
        import numpy as np
        import torch

        offset = (np.arange(T + 1) / T - self.mu) / self.b
        mass = np.diff(-np.sign(offset) * np.expm1(-np.abs(offset)))  # twice the distribution function, minus 1
        p = (1 - self.uniform_share) * mass / mass.sum() + self.uniform_share / T
        return {"shares": torch.from_numpy((p * SHARES).astype(np.int64)).to(device)}

    def draw(self, uniform: Tensor, T: int, state: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        return draw_by_shares(state["shares"], uniform)
