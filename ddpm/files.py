"""Files that are either whole or absent, and their digests."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ddpm.errors import UserError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside ``path``; on success it is synced and renamed to ``path``, else removed.

    What is written may be a file or a folder. The temporary name keeps the suffix, because writers choose
    their format by it. Raises UserError when the folder cannot be written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        holder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise UserError(f"{path}: cannot write here ({error.strerror}): check the folder's permissions") from error
    temporary = holder / path.name
    try:
        yield temporary
        if temporary.is_file():
            if path.is_dir():
                raise UserError(
                    f"{path}: a folder stands where a file is to be written: remove it, or choose another name"
                )
            with temporary.open("rb") as handle:
                os.fsync(handle.fileno())
        elif path.is_dir():
            shutil.rmtree(path)
        temporary.replace(path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    finally:
        shutil.rmtree(holder, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as JSON with sorted keys; NaN and infinity are refused (ValueError)."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Raises UserError when the file is missing or is no JSON."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; `dvc repro` makes it") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: not valid JSON ({error}); remove it and run `dvc repro`") from error


def sha256(path: Path) -> str:
    """Digest of a file, or of a folder's sorted (relative name, digest) list."""
    if path.is_dir():
        listing = [(str(p.relative_to(path)), sha256(p)) for p in sorted(path.rglob("*")) if is_content(p)]
        return digest(listing)
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def is_content(path: Path) -> bool:
    """Whether a file below a folder counts: compiled Python does not."""
    return path.is_file() and path.suffix != ".pyc"


def digest(value: Any) -> str:
    """sha256 of a JSON-able value, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, keys joined by dots."""
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= flatten(item, f"{prefix}{key}.") if isinstance(item, Mapping) else {f"{prefix}{key}": item}
    return flat
