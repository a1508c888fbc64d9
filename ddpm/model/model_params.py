"""The ``model`` section of params.yaml, and the config in a model file."""

import json
from typing import Annotated, Any

from pydantic import (
    Field,
    InstanceOf,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from ddpm.base import variant
from ddpm.base.sections import Affects, ImageShape, Section, Seed
from ddpm.base.variant import Family
from ddpm.diffusion.diffusion_params import Diffusion
from ddpm.model.architecture import Architecture

MAX_CLASSES = 100_000


class Model(Section):
    """The network, and how many classes it knows: 0 for one that knows none.

    In params.yaml the network's name and hyperparameters stand next to ``classes``.
    """

    inlined = "architecture"

    architecture: Annotated[InstanceOf[Architecture], Family("networks")]
    classes: Annotated[int, Field(ge=0, le=MAX_CLASSES)] = 0

    @property
    def name(self) -> str:
        return self.architecture.name

    @field_validator("classes")
    @classmethod
    def _check_classes(cls, value: int) -> int:
        if value == 1:
            raise ValueError("allowed: 0 for no classes, or at least 2")
        return value

    @model_validator(mode="before")
    @classmethod
    def _split_classes(cls, value: Any) -> Any:
        if not isinstance(value, dict) or "architecture" in value:
            return value
        classes = {"classes": value["classes"]} if "classes" in value else {}
        spec = {key: block for key, block in value.items() if key != "classes"}
        return {"architecture": variant.choose("networks", spec, ("classes",)), **classes}

    @model_serializer(mode="wrap")
    def _merge_classes(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = handler(self)
        return {**fields.pop("architecture"), **fields}


class ModelConfig(Section):
    """What is needed to sample from weights. seed: of the training; the noise of the samples depends on it."""

    seed: Annotated[Seed, Affects.LEARNED]
    data: Annotated[ImageShape, Affects.LEARNED]
    diffusion: Annotated[Diffusion, Affects.LEARNED]
    model: Annotated[Model, Affects.LEARNED]

    def to_dict(self, defaults: bool = True) -> dict[str, Any]:
        """Plain JSON values that ``parse`` turns back into this config, with all hyperparameters of the variants; or
        only those that are not the ``defaults``."""
        value: dict[str, Any] = json.loads(self.model_dump_json(serialize_as_any=True, exclude_defaults=not defaults))
        return value
