"""The ``evaluate`` section of params.yaml."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ddpm.base import variant
from ddpm.base.settings import Positive, Section


class Likelihood(Section):
    """The bound on the likelihood is computed for ``images`` of each split, at ``timesteps`` values of t."""

    images: Annotated[int, Field(ge=0)] = 0
    timesteps: Positive = 50


class Evaluate(Section):
    """The features and torch-fidelity metrics that compare samples with real images."""

    extractors: Annotated[tuple[str, ...], Field(min_length=1)]
    metrics: Annotated[tuple[Literal["fid", "isc", "kid", "prc"], ...], Field(min_length=1)] = (
        "fid",
        "isc",
        "kid",
        "prc",
    )
    batch_size: Positive = 64
    kid_subsets: Positive = 100
    kid_subset_size: Annotated[int, Field(ge=2)] = 1000
    prc_neighborhood: Positive = 3
    likelihood: Likelihood = Likelihood()

    @model_validator(mode="after")
    def _known(self) -> Self:
        for name in self.extractors:
            variant.check_name("extractors", name, "evaluate.extractors")
        for field, chosen in {"extractors": self.extractors, "metrics": self.metrics}.items():
            if len(set(chosen)) < len(chosen):
                raise ValueError(f"{field}: [{', '.join(chosen)}] names one twice; list each once")
        return self
