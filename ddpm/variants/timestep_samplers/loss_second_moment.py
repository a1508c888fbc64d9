"""t is drawn in proportion to sqrt(E[L_t^2]) of recent losses. Improved DDPM (arXiv:2102.09672), equation 18."""

from typing import Annotated, ClassVar

from pydantic import Field

from ddpm.base.sections import Fraction
from ddpm.base.tensor import Device, Tensor
from ddpm.diffusion.schedule import NoiseSchedule
from ddpm.training.timesteps import SHARES, TimestepSampler, draw_by_shares


class LossSecondMoment(TimestepSampler):
    """Uniform until every t has ``history`` losses. After that ``uniform_share`` of the draws stay uniform, to keep the
    losses of every t up to date. Made for ``vlb``, whose terms differ by orders of magnitude."""

    by_loss: ClassVar[bool] = True

    history: Annotated[int, Field(ge=1, le=1000)] = 10
    uniform_share: Fraction = 0.001

    def state(self, schedule: NoiseSchedule, device: Device) -> dict[str, Tensor]:
        """losses: (T, history), a ring buffer of the latest at each t; counts: (T,) int64, of all losses so far."""
        import torch

        T = len(schedule)
        return {
            "losses": torch.zeros(T, self.history, device=device),
            "counts": torch.zeros(T, dtype=torch.int64, device=device),
        }

    def draw(self, uniform: Tensor, T: int, state: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        import torch

        moment = state["losses"].double().square().mean(dim=1).sqrt()
        moment = torch.where((state["counts"] >= self.history).all(), moment, 1.0)
        p = (1 - self.uniform_share) * moment / moment.sum().clamp(min=1e-30) + self.uniform_share / T
        return draw_by_shares((p * SHARES).long(), uniform)

    def update(self, state: dict[str, Tensor], t: Tensor, losses: Tensor) -> None:
        import torch
        import torch.nn.functional as F

        index, counts = t - 1, state["counts"]
        same = index[:, None] == index
        earlier, later = same.tril(-1).sum(dim=1), same.triu(1).sum(dim=1)
        slot = index * self.history + (counts[index] + earlier) % self.history
        # If a batch draws one t more than ``history`` times, only the last ones fit; the others go to an extra slot at
        # the end. Masking them out would make the host wait for the device to count them.
        rings = state["losses"]
        slot = torch.where(later < self.history, slot, rings.numel())
        rings.copy_(F.pad(rings.flatten(), (0, 1)).index_put_((slot,), losses.float())[:-1].view_as(rings))
        counts.index_add_(0, index, torch.ones_like(index))
