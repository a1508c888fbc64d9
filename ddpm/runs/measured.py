"""The files of metrics/ as typed values: damaged or hand-edited ones are refused in one line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError

from ddpm.base import files, variant
from ddpm.base.errors import UserError
from ddpm.base.paths import EVALUATE, FINGERPRINT

REMEDY = "`dvc repro` makes it"
ADAPTER: Callable[[Any], TypeAdapter[Any]] = cache(TypeAdapter)
LARGEST = 1e100  # of a score: the squares of larger ones overflow
Score = Annotated[FiniteFloat, Field(ge=-LARGEST, le=LARGEST)]
FLAT = TypeAdapter(dict[str, Score], config=ConfigDict(strict=True))


class _Fingerprint(BaseModel):
    hash: str
    comparable: dict[str, Any]


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
    found = error.errors(include_url=False)[0]
    line = f"{variant.shown(found['input'])} is not allowed: {found['msg']}"
    return ": ".join([*filter(None, [variant.clipped(".".join(map(str, found["loc"])))]), line])


def finite(scores: Mapping[str, Any], source: object) -> dict[str, float]:
    """The flat scores. Raises UserError, which begins with ``source``, if one is not a number of sane size."""
    try:
        return FLAT.validate_python(scores)
    except ValidationError as error:
        raise UserError(f"{source}: {refusal(error)}; run `dvc repro` again, or fix the model") from error


def scores(path: Path = EVALUATE) -> dict[str, float]:
    """Name, such as ``classifier.fd``, -> score. Raises UserError."""
    return finite(files.flatten(read(path)), path)


def comparable(path: Path = FINGERPRINT) -> dict[str, Any]:
    """The fingerprint's content. Raises UserError, also if the fingerprint's hash is not the digest of it."""
    found: _Fingerprint = read(path, _Fingerprint)
    if files.digest(found.comparable) != found.hash:
        raise UserError(
            f"{path}: its hash is not that of its content: it was changed by hand; run `dvc repro -f evaluate`"
        )
    return found.comparable
