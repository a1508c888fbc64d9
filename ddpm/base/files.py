"""Files that are either whole or absent, and their digests."""

from __future__ import annotations

import csv
import fcntl
import glob
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from ddpm.base.errors import MEND, UserError, storage_fault

Rows = list[dict[str, float | int | str]]

MAX_JSON_BYTES = 2**27
PART = ".part"  # ends the name of what is being written


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside ``path``; on success it is synced and renamed to ``path``, else removed.

    What is written may be a file or a folder. The temporary name keeps the suffix, because writers choose
    their format by it. Others may read the result as the umask says, whatever its writer did. What a killed process
    left of the same name is removed. Raises UserError when the folder cannot be written to, or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        holder, lock = _holder(path)
    except OSError as error:
        raise UserError(f"{path}: cannot write here ({error.strerror}): {MEND}") from error
    temporary = holder / path.name
    try:
        yield temporary
        if temporary.is_file() and path.is_dir():
            raise UserError(f"{path}: a folder stands where a file is to be written: remove it, or choose another name")
        usual = _usual_mode(holder)
        for written in (*temporary.rglob("*"), temporary):
            if written.is_file():
                written.chmod(written.stat().st_mode | usual)  # safetensors would let nobody else read it
            _sync(written)
        if temporary.is_dir() and path.is_dir():
            shutil.rmtree(path)
        temporary.replace(path)
        _sync(path.parent)
    except Exception as error:
        if reason := storage_fault(error):
            raise UserError(f"{path}: cannot be written ({reason}): {MEND}") from error
        raise
    finally:
        shutil.rmtree(holder, ignore_errors=True)
        os.close(lock)


def _holder(path: Path) -> tuple[Path, int]:
    """A new folder beside ``path``, and a descriptor of it. It is locked while its process lives: those that are not
    were left by a killed one, and go."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*{PART}"):
        if (lock := try_lock(left)) is not None:
            shutil.rmtree(left, ignore_errors=True)
            os.close(lock)
    while True:
        holder = Path(tempfile.mkdtemp(PART, f".{path.name}.", path.parent))
        # another process may take it for a leftover before it is locked
        if (lock := try_lock(holder)) is not None:
            if holder.exists():
                return holder, lock
            os.close(lock)


def try_lock(path: Path) -> int | None:
    """A descriptor that holds the lock of a file or folder, or None where another process does, or has removed it."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _usual_mode(holder: Path) -> int:
    """The permissions of a file that is made in the folder, as the umask says."""
    probe = holder / PART
    probe.touch()
    mode = stat.S_IMODE(probe.stat().st_mode)
    probe.unlink()
    return mode


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as JSON with sorted keys; NaN and infinity are refused (ValueError)."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Raises UserError when the file is missing, is no JSON, or more of it than any file here holds."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise UserError(f"{path}: larger than {MAX_JSON_BYTES:,} bytes; remove it and run `dvc repro`")
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; `dvc repro` makes it") from error
    except (IsADirectoryError, RecursionError, ValueError) as error:
        raise UserError(f"{path}: not valid JSON ({error}); remove it and run `dvc repro`") from error


def write_rows(path: Path, rows: Rows, columns: Iterable[str] = ()) -> None:
    """A CSV file with a header, which begins with ``columns`` and is whole where there are no rows."""
    with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys([*columns, *(key for row in rows for key in row)])))
        writer.writeheader()
        for row in rows:
            writer.writerow({key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()})


def sha256(path: Path) -> str:
    """Digest of a file, or of a folder's sorted (relative name, digest) list, less compiled Python."""
    if path.is_dir():
        return digest([(name, sha256(file)) for name, file in sorted(_below(path).items())])
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def md5(path: Path) -> str:
    """As dvc.lock has it: of a file's bytes, or of the list of a folder's files, less compiled Python."""
    if not path.is_dir():
        with path.open("rb") as handle:
            return hashlib.file_digest(handle, partial(hashlib.md5, usedforsecurity=False)).hexdigest()
    below = _below(path)
    listing = json.dumps([{"md5": md5(below[name]), "relpath": name} for name in sorted(below)], sort_keys=True)
    return f"{hashlib.md5(listing.encode(), usedforsecurity=False).hexdigest()}.dir"


def stamp(path: Path) -> str:
    """What changes whenever a file, or one in a folder, is written: name, inode, size and time of each, and no content.

    DVC goes by the same (dvc-data's ``State``). It costs a look into the folder, where ``sha256`` reads every byte.
    """
    below = _below(path) if path.is_dir() else {"": path}
    found = {name: file.stat() for name, file in sorted(below.items())}
    return digest([(name, at.st_ino, at.st_size, at.st_mtime_ns, at.st_ctime_ns) for name, at in found.items()])


def _below(folder: Path) -> dict[str, Path]:
    """Relative name -> each file below the folder, less those that .dvcignore names: Python writes them at any time,
    under a passing name first."""
    files = (file for file in folder.rglob("*") if file.is_file() and file.suffix != ".pyc")
    named = {file.relative_to(folder): file for file in files}
    return {str(name): file for name, file in named.items() if "__pycache__" not in name.parts}


def digest(value: Any) -> str:
    """sha256 of a JSON-able value, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, keys joined by dots."""
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= flatten(item, f"{prefix}{key}.") if isinstance(item, Mapping) else {f"{prefix}{key}": item}
    return flat
