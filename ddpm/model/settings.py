"""The ``model`` section of params.yaml, and all that a model file needs to be sampled from."""

from __future__ import annotations

import json
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, model_validator

from ddpm.base import variant
from ddpm.base.settings import ImageShape, Section
from ddpm.diffusion.settings import Diffusion


class Model(Section):
    """The network's name and hyperparameters; ``architecture.build`` checks them, because that needs torch."""

    model_config = ConfigDict(extra="allow")

    name: str

    @model_validator(mode="after")
    def _known(self) -> Self:
        variant.check_name("networks", self.name, "model.name")
        for name in self.model_extra or {}:
            variant.check_name("networks", name, f"model.{name}")
        return self


class ModelConfig(Section):
    """What turns weights into images. seed: of the training, by which the noise of its samples is named."""

    seed: Annotated[int, Field(ge=0, lt=2**63)]
    data: ImageShape
    diffusion: Diffusion
    model: Model

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values that ``parse`` turns back into this config, variants with all their hyperparameters."""
        value: dict[str, Any] = json.loads(self.model_dump_json(serialize_as_any=True))
        return value
