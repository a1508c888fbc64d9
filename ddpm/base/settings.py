"""The building blocks of every room's settings, and how they are made from plain values."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    WithJsonSchema,
)

from ddpm.base import variant
from ddpm.base.errors import UserError

# params key -> the folder of ddpm/variants/ with its possible values
FAMILIES = {
    "data.dataset": "datasets",
    "diffusion.schedule": "schedules",
    "diffusion.parameterization": "parameterizations",
    "diffusion.variance": "variances",
    "diffusion.loss": "losses",
    "train.timestep_sampler": "timestep_samplers",
    "train.ema": "emas",
    "sample.sampler": "samplers",
}

S = TypeVar("S", bound="Section")
Positive = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Precision = Literal["auto", "float32", "bfloat16", "float16"]


def _count(value: object) -> int | str:
    if value != "auto" and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise ValueError("a whole number of at least 1, or auto")
    return value


Count = Annotated[
    int | Literal["auto"],
    PlainValidator(_count),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"const": "auto"}]}),
]


def _no_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("1 or 3")
    return value


Channels = Annotated[Literal[1, 3], BeforeValidator(_no_bool)]  # True == 1 satisfies a Literal, even a strict one


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Shape(NamedTuple):
    """Of one image."""

    channels: int
    height: int
    width: int


class ImageShape(Section):
    """Images are uint8 (channels, image_size, image_size)."""

    image_size: Annotated[int, Field(ge=4, le=1024)]
    channels: Channels

    @property
    def shape(self) -> Shape:
        return Shape(self.channels, self.image_size, self.image_size)


def parse(value: Any, source: str, kind: type[S]) -> S:
    """A config from plain values, read from YAML or from a model file's metadata.

    Raises UserError with a message that starts with ``source``.
    """
    try:
        if not isinstance(value, dict):
            raise UserError(f"must be a mapping of sections, it is {type(value).__name__}")
        value = _freeze(value)
        for key, family in FAMILIES.items():
            section, _, field = key.partition(".")
            if isinstance(value.get(section), dict) and field in value[section]:
                built = variant.build(family, value[section][field], key)
                value[section] = {**value[section], field: built}
        return kind.model_validate(value)
    except ValidationError as error:
        raise UserError(f"{source}: {variant.explain(error, kind, '')}") from error
    except RecursionError as error:
        raise UserError(f"{source}: a section contains itself: fix its alias (*)") from error
    except UserError as error:
        raise UserError(f"{source}: {error}") from error


def section(kind: type[S], value: dict[str, Any]) -> S:
    """One section from plain values, e.g. a command's flags. Raises UserError that names the key."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise UserError(variant.explain(error, kind, kind.__name__.lower())) from error


def _freeze(value: Any) -> Any:
    """Turn lists into tuples: sections are immutable throughout. Raises UserError for a key that is not text."""
    if isinstance(value, dict):
        if odd := [key for key in value if not isinstance(key, str)]:
            raise UserError(f"{variant.shown(odd[0])} is not allowed as a key: keys are words")
        return {key: _freeze(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_freeze(item) for item in value)
    return value
