"""The files of metrics/ as typed values: damaged or hand-edited ones are refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError

from ddpm.base import variant
from ddpm.base.errors import UserError

REMEDY = "`dvc repro` makes it"
ADAPTER: Callable[[Any], TypeAdapter[Any]] = cache(TypeAdapter)
LARGEST = 1e100  # of a score: the squares of larger ones overflow
Score = Annotated[FiniteFloat, Field(ge=-LARGEST, le=LARGEST)]
FLAT = TypeAdapter(dict[str, Score], config=ConfigDict(strict=True))


def read(path: Path, kind: Any = dict[str, Any], remedy: str = REMEDY) -> Any:
    """A JSON file of that type. Raises UserError, which ends in ``remedy``, if it is missing or not of that type."""
    try:
        return parse(path.read_bytes(), kind)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {remedy}") from error
    except UserError as error:
        raise UserError(f"{path}: {error}; {remedy}") from error


def parse(text: bytes, kind: Any = dict[str, Any]) -> Any:
    """JSON of that type. Raises UserError if it is not."""
    try:
        return ADAPTER(kind).validate_json(text)
    except ValidationError as error:
        raise UserError(refusal(error)) from error


def refusal(error: ValidationError) -> str:
    """The first finding: the key, its value, and what is allowed."""
    first = error.errors(include_url=False)[0]
    line = f"{variant.shown(first['input'])} is not allowed: {first['msg']}"
    return ": ".join([*filter(None, [variant.clipped(".".join(map(str, first["loc"])))]), line])
