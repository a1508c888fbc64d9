"""One t from each of B equal parts of 1..T, so that every batch covers the range: the low-discrepancy sampler of Kingma
et al. 2021 (arXiv:2107.00630), with one draw per part instead of one for all."""

from ddpm.base.tensor import Tensor
from ddpm.training.timesteps import TimestepSampler


class Stratified(TimestepSampler):
    """t is uniform over a batch, with less variance than independent draws. Images are shuffled, so each of them gets t
    from every part in time."""

    def draw(self, uniform: Tensor, T: int, state: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        import torch

        part = torch.arange(len(uniform), device=uniform.device)
        t = ((part + uniform) * (T / len(uniform))).long() + 1
        # rounding can give T + 1 at the upper end of the last part
        return t.clamp(max=T), torch.ones_like(uniform, dtype=torch.float32)
