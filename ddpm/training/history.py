"""The loss curve: collected on the device, fetched now and then, the same after any resume."""

import math
import time
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ddpm.base.errors import Diverged

ROWS = 400
# The scaler halves its scale, 65,536 at first, at each overflow: after so many in a row, float16 holds no gradient.
STORM = 60


class LossRow(NamedTuple):
    """A point of the curve: means over the steps since the row before; seconds of training so far."""

    step: int
    seconds: float
    loss: float
    learning_rate: float
    gradient_norm: float
    images_per_second: float


class History:
    """Losses and gradient norms of every step; about ``ROWS`` rows a run, each costing one device sync."""

    def __init__(self, total: int, images_per_step: int, gradients_may_overflow: bool):
        self.total = total
        self.every = max(1, math.ceil(total / ROWS))
        self.images_per_step = images_per_step
        self.gradients_may_overflow = gradients_may_overflow
        self.rows: list[LossRow] = []
        self.pending: list[Tensor] = []  # (2,) loss and gradient norm of each step since the last row
        self.overflows = 0  # of the gradient in a row, up to the last row
        self.before = 0.0  # seconds trained by earlier processes
        self.started = time.perf_counter()

    @property
    def seconds(self) -> float:
        return self.before + time.perf_counter() - self.started

    def add(self, step: int, loss: Tensor, gradient_norm: Tensor, learning_rate: float) -> LossRow | None:
        """Record a step's scalars without a sync; every ``every`` steps, and at the last, return a row.

        Raises UserError when a loss, or a gradient where no scaler guards it, is not finite.
        """
        self.pending.append(torch.stack([loss.detach(), gradient_norm.detach()]))
        if step % self.every and step != self.total:
            return None
        values = self.check(step)
        self.overflows = self._overflows(values)
        self.pending = []
        last = self.rows[-1] if self.rows else LossRow(0, 0.0, 0.0, 0.0, 0.0, 0.0)
        seconds = self.seconds
        norms = values[1][values[1].isfinite()]
        speed = (step - last.step) * self.images_per_step / max(seconds - last.seconds, 1e-9)
        norm = float(norms.mean()) if len(norms) else 0.0
        self.rows.append(LossRow(step, seconds, float(values[0].mean()), learning_rate, norm, speed))
        return self.rows[-1]

    def check(self, step: int) -> Tensor:
        """The pending values, (2, K) float64; raises UserError as ``add`` does. ``step`` is the last one recorded."""
        values = torch.stack(self.pending, dim=1).double().cpu()
        finite = values[0].isfinite() if self.gradients_may_overflow else values.isfinite().all(dim=0)
        if not finite.all():
            first = int((~finite).nonzero()[0])
            bad = step - values.shape[1] + 1 + first
            raise Diverged(
                f"train: the loss or its gradient is not finite at step {bad} (loss {values[0, first]:.4g}); the last "
                "good checkpoint is kept: lower train.learning_rate, set train.gradient_clip, or use float32"
            )
        if self._overflows(values) >= STORM:
            raise Diverged(
                f"train: the gradient overflowed float16 at each of the {self._overflows(values)} steps up to {step}, "
                "however it was scaled: nothing is learned; use train.precision: bfloat16 or float32"
            )
        return values

    def _overflows(self, values: Tensor) -> int:
        """How many in a row, up to the last of the pending ``values``."""
        fine = values[1].isfinite().nonzero()
        return values.shape[1] - 1 - int(fine[-1]) if len(fine) else self.overflows + values.shape[1]

    def state(self, step: int) -> dict[str, Any]:
        """Its state in a checkpoint after ``step``; raises UserError rather than let a broken state be saved."""
        pending = self.check(step) if self.pending else torch.empty(2, 0, dtype=torch.float64)
        return {"pending": pending, "rows": self.rows, "seconds": self.seconds, "overflows": self.overflows}

    def restore(self, state: dict[str, Any]) -> None:
        self.rows = [LossRow(*row) for row in state["rows"]]
        self.before, self.overflows = state["seconds"], state["overflows"]
        self.pending = list(state["pending"].float().unbind(dim=1))
        self.started = time.perf_counter()

    def facts(self) -> dict[str, float]:
        """Loss over the last tenth of the run, seconds, and images/s over the whole."""
        tail = self.rows[-max(1, len(self.rows) // 10) :]
        seconds = self.rows[-1].seconds
        return {
            "loss": sum(row.loss for row in tail) / len(tail),
            "steps": self.total,
            "images_seen": self.total * self.images_per_step,
            "seconds": round(seconds, 2),
            "images_per_second": round(self.total * self.images_per_step / seconds, 1),
        }
