"""One t from each of B equal parts of 1..T, so that every batch covers it: the low-discrepancy sampler of Kingma et
al. 2021 (arXiv:2107.00630), with a draw for each part instead of one for all."""

from __future__ import annotations

from ddpm.base.tensor import Tensor
from ddpm.training.timesteps import TimestepSampler


class Stratified(TimestepSampler):
    """Over a batch t is uniform, with less variance than independent draws; images come shuffled, so each of them sees
    every part in time."""

    def draw(self, uniform: Tensor, T: int, state: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        import torch

        part = torch.arange(len(uniform), device=uniform.device)
        t = ((part + uniform) * (T / len(uniform))).long() + 1
        # the last part's top end can round up to T + 1
        return t.clamp(max=T), torch.ones_like(uniform, dtype=torch.float32)
