"""The ``data`` section of params.yaml."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, InstanceOf, model_validator

from ddpm.base.settings import Fraction, ImageShape
from ddpm.sources.dataset import Dataset

Resize = Literal["squash", "crop"]


class Data(ImageShape):
    """What the model learns from, and how each image is brought to ``image_size`` and ``channels``."""

    dataset: InstanceOf[Dataset]
    source: str | None = None
    resize: Resize = "crop"
    test_fraction: Fraction = 0.1
    split_seed: Annotated[int, Field(ge=0)] = 0
    on_error: Literal["fail", "skip"] = "fail"

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if reasons := list(self.dataset.refusals(self.shape)):
            raise ValueError("; ".join(reasons))
        return self
