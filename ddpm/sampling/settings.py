"""The ``sample`` section of params.yaml."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, InstanceOf, model_validator

from ddpm.base.settings import Positive, Precision, Section, Seed
from ddpm.sampling.sampler import Sampler

Spacing = Literal["uniform", "quadratic", "trailing", "log_snr", "karras"]


class Sample(Section):
    """How images are drawn from the model."""

    count: Positive
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0,)
    batch_size: Positive = 256
    sampler: InstanceOf[Sampler]
    steps: Positive
    spacing: Spacing = "uniform"
    clip_denoised: bool = True
    precision: Precision = "auto"

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: {list(self.seeds)} names one twice; list each once")
        return self
