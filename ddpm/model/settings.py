"""The ``model`` section of params.yaml, and the config in a model file."""

import json
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from ddpm.base import variant
from ddpm.base.settings import ImageShape, Section, Seed
from ddpm.diffusion.settings import Diffusion

MAX_CLASSES = 100_000


class Model(Section):
    """The network's name and hyperparameters; ``architecture.build`` checks the latter, because that needs torch.

    classes: how many of them the network knows, 0 for one that knows none.
    """

    model_config = ConfigDict(extra="allow")

    name: str
    classes: Annotated[int, Field(ge=0, le=MAX_CLASSES)] = 0

    @field_validator("classes")
    @classmethod
    def _several(cls, value: int) -> int:
        if value == 1:
            raise ValueError("0 for no classes, or at least 2")
        return value

    @model_validator(mode="after")
    def _known(self) -> Self:
        variant.check_name("networks", self.name, "model.name")
        for name in self.model_extra or {}:
            variant.check_name("networks", name, f"model.{name}", *type(self).model_fields)
        return self

    def spec(self) -> dict[str, Any]:
        """The architecture and its hyperparameters, for ``variant.build``."""
        return self.model_dump(exclude={"classes"})


class ModelConfig(Section):
    """What is needed to sample from weights. seed: of the training; the noise of the samples depends on it."""

    seed: Seed
    data: ImageShape
    diffusion: Diffusion
    model: Model

    def to_dict(self, defaults: bool = True) -> dict[str, Any]:
        """Plain JSON values that ``parse`` turns back into this config, with all hyperparameters of the variants; or
        only those that are not the ``defaults``."""
        value: dict[str, Any] = json.loads(self.model_dump_json(serialize_as_any=True, exclude_defaults=not defaults))
        return value
