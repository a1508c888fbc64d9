"""The files of metrics/ as typed values: damaged or hand-edited ones are refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ddpm.base import variant
from ddpm.base.errors import UserError

ADAPTER: Callable[[Any], TypeAdapter[Any]] = cache(TypeAdapter)


def read(path: Path, kind: Any, remedy: str = "`dvc repro` makes it") -> Any:
    """A JSON file of that type. Raises UserError, which ends in ``remedy``, if it is missing or not of that type."""
    try:
        return ADAPTER(kind).validate_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {remedy}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]  # the key, its value, and what is allowed
        key = variant.clipped(".".join(map(str, first["loc"])))
        line = f"{variant.shown(first['input'])} is not allowed: {first['msg']}"
        raise UserError(f"{path}: {': '.join([*filter(None, [key]), line])}; {remedy}") from error
