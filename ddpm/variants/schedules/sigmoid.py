"""alpha_bar follows a falling sigmoid. Jabri et al. 2022 (arXiv:2212.11972); Chen 2023 (arXiv:2301.10972)."""

from typing import Annotated, Self

import numpy as np
from pydantic import Field, model_validator

from ddpm.diffusion.schedule import MAX_BETA, Array, Beta, Schedule, betas_of


class SigmoidSchedule(Schedule):
    """The sigmoid between ``start`` and ``end`` at temperature ``tau``, rescaled to fall from 1 to 0."""

    start: Annotated[float, Field(ge=-10, le=10)] = -3.0
    end: Annotated[float, Field(ge=-10, le=10)] = 3.0
    tau: Annotated[float, Field(ge=0.1, le=10)] = 1.0
    max_beta: Beta = MAX_BETA

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if self.start >= self.end:
            raise ValueError(f"start: {self.start} must be less than end: {self.end}")
        return self

    def betas(self, T: int) -> Array:
        u = np.linspace(self.start, self.end, T + 1) / self.tau
        # sigmoid(a) - sigmoid(b) = sinh((a - b) / 2) / (2 cosh(a / 2) cosh(b / 2)): no cancellation near t = T
        remaining = np.sinh((u[-1] - u) / 2) / np.cosh(u / 2)
        return betas_of(remaining / remaining[0], self.max_beta)
