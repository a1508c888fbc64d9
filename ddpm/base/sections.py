"""The building blocks of every room's settings, and how they are made from plain values."""

import json
from collections.abc import Collection, Iterator, Sequence
from enum import Flag, auto
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo

from ddpm.base import variant
from ddpm.base.errors import UserError, blame
from ddpm.base.files import digest

S = TypeVar("S", bound="Section")
Positive = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
Precision = Literal["auto", "float32", "bfloat16", "float16"]


def _count(value: object) -> int | str:
    if value != "auto" and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise ValueError("allowed: a whole number of at least 1, or auto")
    return value


def _switch(value: object) -> bool | str:
    if not isinstance(value, bool) and value != "auto":
        raise ValueError("allowed: true, false or auto")
    return value


Switch = Annotated[bool | Literal["auto"], PlainValidator(_switch)]  # auto: what pays off on the device
Count = Annotated[int | Literal["auto"], PlainValidator(_count)]

Channels = Annotated[int, Field(strict=True, ge=1, le=64)]
MAX_SIDE = 1024


def _size(value: object) -> int | tuple[int, int]:
    """A square has one spelling, its side: [8, 8] trains the same model and has the same fingerprint as 8."""
    sides = tuple(value) if isinstance(value, list | tuple) else (value, value)
    # by type, because True is an int
    if len(sides) != 2 or not all(type(side) is int and 1 <= side <= MAX_SIDE for side in sides):
        raise ValueError(f"allowed: a whole number of pixels from 1 to {MAX_SIDE}, or two of them: [height, width]")
    height, width = sides
    return height if height == width else (height, width)


ImageSize = Annotated[int | Sequence[int], PlainValidator(_size)]


@lru_cache(maxsize=2**12)  # a thousand records have the same
def inside(path: str) -> str:
    """The path. Raises ValueError unless it is below the project's folder, and none of git's files or our own."""
    parts = Path(path).parts
    if not parts or parts[0] == "/" or {"..", ".git", ".ddpm"} & {*parts}:
        raise ValueError("allowed: a path in this folder")
    return path


class Affects(Flag):
    """What a key of params.yaml changes in a result. It is a field's mark, ``Annotated[Positive, Affects.ROUNDING]``; a
    field without one has that of the section that it is in."""

    NOTHING = 0  # where something is found; how often a training is saved and shown
    ROUNDING = auto()  # the order in which numbers are added
    LEARNED = auto()  # the weights, and with them all that follows
    DRAWN = auto()  # the samples
    SCORED = auto()  # the real images and the measures, which are those of any program's samples, too
    RESULT = LEARNED | DRAWN | SCORED


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
    inlined: ClassVar[str] = ""  # a field whose keys stand in the section itself

    def identity(self) -> str:
        """Twelve digits that are equal for settings that differ only in fields that change no result."""
        value = json.loads(self.model_dump_json(serialize_as_any=True))
        for key, _, mark in fields(type(self)):
            if not mark & Affects.RESULT:
                section, _, name = key.rpartition(".")
                (value[section] if section else value).pop(name, None)
        return digest(value)[:12]

    def only(self, keys: Collection[str]) -> Self:
        """A copy with only ``keys`` (``field`` or ``section.field``): reading any other raises AttributeError.

        Stages get the keys that dvc.yaml lists for them, so that no stage can read what DVC does not watch.
        """
        values = {}
        for name, value in self:
            if name in keys:
                values[name] = value
            elif below := {key.removeprefix(f"{name}.") for key in keys if key.startswith(f"{name}.")}:
                values[name] = value.only(below)
        part = self.model_copy()
        object.__setattr__(part, "__dict__", values)  # as pydantic fills its own copies
        return part

    def refusals(self) -> Iterator[str]:
        """Why its values cannot work together, if they cannot."""
        yield from ()

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if reasons := list(self.refusals()):
            raise ValueError("; ".join(reasons))
        return self


class Shape(NamedTuple):
    """Channels, height and width of an image."""

    channels: int
    height: int
    width: int

    @classmethod
    def of(cls, channels: int, image_size: int | Sequence[int]) -> Self:
        """image_size: of a square, or its height and width."""
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        return cls(channels, height, width)

    @property
    def image_size(self) -> int | list[int]:
        """As in params.yaml: the side of a square, or height and width."""
        return self.height if self.height == self.width else [self.height, self.width]

    def __str__(self) -> str:
        return str(tuple(self))


class ImageShape(Section):
    """Images are uint8 (channels, height, width). image_size: height and width, or one number for both."""

    image_size: ImageSize
    channels: Channels

    @property
    def shape(self) -> Shape:
        return Shape.of(self.channels, self.image_size)


def parse(value: Any, source: str, kind: type[S]) -> S:
    """A section from plain values, read from YAML or a model file's metadata, or given as options of a command.

    Raises UserError with a message that starts with ``source``.
    """
    with blame(source):
        try:
            if not isinstance(value, dict):
                raise UserError(f"must be a mapping of sections, not {type(value).__name__}")
            return kind.model_validate(_freeze(value))
        except ValidationError as error:
            raise UserError(variant.explain(error, kind, "")) from error
        except RecursionError as error:
            raise UserError("a section contains itself: fix its alias (*)") from error


def fields(
    kind: type[Section], prefix: str = "", affects: Affects = Affects.RESULT
) -> Iterator[tuple[str, FieldInfo, Affects]]:
    """Key, field and mark of everything in a section, of the sections in it, and of what is in those. affects: the
    section's own mark."""
    for name, field in kind.model_fields.items():
        key = prefix.strip(".") if name == kind.inlined else f"{prefix}{name}"
        mark = next((mark for mark in field.metadata if isinstance(mark, Affects)), affects)
        yield key, field, mark
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from fields(field.annotation, f"{key}.", mark)


@lru_cache(maxsize=2**12)  # a thousand runs have the same keys
def is_in(key: str, by: tuple[str, ...]) -> bool:
    """Whether ``by`` names a key, a section that it is in, or the variant (``schedule.name``) that it belongs to."""
    return any(under(key, name.removesuffix(".name")) for name in by)


def under(key: str, section: str) -> bool:
    """Whether a params key is the section, or is in it."""
    return key == section or key.startswith(f"{section}.")


def _freeze(value: Any) -> Any:
    """Turn lists into tuples: sections are immutable throughout. Raises UserError for a key that is not text."""
    if isinstance(value, dict):
        if odd := [key for key in value if not isinstance(key, str)]:
            raise UserError(f"{variant.quote(odd[0])} is not allowed as a key: keys are words")
        return {key: _freeze(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_freeze(item) for item in value)
    return value
