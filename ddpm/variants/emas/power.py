"""The average's width grows with training: a power function of the step. EDM2, Karras et al. 2023 (arXiv:2312.02696),
section 3.1."""

from functools import cached_property
from typing import Annotated

from pydantic import Field

from ddpm.model import posthoc
from ddpm.training.ema import EMAProfile


class PowerEMA(EMAProfile):
    """``sigma_rel`` is the width of the average relative to the training so far; the paper uses 0.05 and 0.10."""

    sigma_rel: Annotated[float, Field(gt=0, le=0.288)] = 0.05

    @cached_property
    def gamma(self) -> float:
        return posthoc.exponent(self.sigma_rel)

    def decay(self, step: int) -> float:
        return posthoc.decay(self.gamma, step)
