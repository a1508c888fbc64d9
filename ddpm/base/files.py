"""Files that are either complete or absent, and their digests."""

import csv
import errno
import glob
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache, partial
from io import FileIO
from pathlib import Path
from tokenize import TokenError
from typing import Any, Literal

from ddpm.base.errors import FIX, UserError, storage_fault
from ddpm.base.locks import try_lock

Rows = list[dict[str, float | int | str]]

PART = ".part"  # ends the name of the folder of what is being written, whose writer holds the lock of its file HELD
HELD = ".held"
WAIT = 0.01  # seconds, between attempts to lock a file to which others append
# what numpy's reader raises for bytes that are not a .npy file
NO_ARRAY = (OSError, ValueError, EOFError, OverflowError, MemoryError, RecursionError, SyntaxError, TokenError)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary name next to ``path``; on success it is synced and renamed to ``path``, else removed.

    It works for a file or a folder. The temporary name keeps the suffix, because writers choose their format by it.
    The result is readable by others as the umask allows, whatever the writer set. Leftovers of a killed process under
    the same name are removed. Raises UserError when the folder cannot be written to, or the disk is full.
    """
    try:
        if path.is_symlink() and path.is_dir():  # to a folder on another disk, for example
            path = path.resolve()
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = _lock_holder(path)
    except OSError as error:
        raise UserError(f"{path}: cannot write here ({error.strerror}): {FIX}") from error
    holder = Path(lock.name).parent
    temporary = holder / path.name
    try:
        yield temporary
        if temporary.is_file() and path.is_dir():
            raise UserError(f"{path}: a folder has this name: remove it, or choose another name")
        usual = holder.stat().st_mode & 0o666  # of a new file, under this umask
        for written in (*temporary.rglob("*"), temporary):
            if written.is_file():
                written.chmod(written.stat().st_mode | usual)  # safetensors writes files that nobody else can read
            _sync(written)
        if temporary.is_dir() and path.is_dir():
            shutil.rmtree(path)
        temporary.replace(path)
        _sync(path.parent)
    except Exception as error:
        if reason := storage_fault(error):
            raise UserError(f"{path}: cannot be written ({reason}): {FIX}") from error
        raise
    finally:
        lock.close()  # first: NFS keeps what is open
        shutil.rmtree(holder, ignore_errors=True)


def read_lines(path: Path, largest: int = 2**28) -> list[str]:
    """The lines of a file to which ``append_lines`` appends, without a last one that is only half written; none if
    there is no file. Raises UserError if it is a link, has more than ``largest`` bytes, or cannot be read."""
    try:
        if path.is_symlink() or (path.exists() and not (path.is_file() and path.stat().st_size <= largest)):
            raise OSError(errno.EINVAL, f"a link, or not a file of at most {largest:,} bytes")
        text = path.read_bytes().decode(errors="backslashreplace") if path.exists() else ""
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); restore it from git, or remove it") from error
    *lines, last = text.split("\n")
    return [line for line in [*lines, last if _is_json(last) else ""] if line]


def append_lines(path: Path, texts: Collection[str]) -> None:
    """Append JSON texts as lines, those that the file does not have yet, all or none, whoever else appends at the same
    time. A last line that is only half written is removed first. Raises UserError if that fails; then the file is as it
    was."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while (file := try_lock(path)) is None:
            time.sleep(WAIT)
            path.parent.mkdir(parents=True, exist_ok=True)
        with file:
            file.seek(0)  # a pipe refuses
            there = file.read()
            known, last = {*there.split(b"\n")}, there.rpartition(b"\n")[2]
            data = b"".join(line + b"\n" for text in texts if (line := text.encode()) not in known)
            end = len(there) if _is_json(last) else len(there) - len(last)
            data = b"\n" + data if last and end == len(there) else data
            file.truncate(end)
            file.seek(end)
            try:
                if file.write(data) < len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                _sync(path)
            except OSError:
                file.truncate(end)
                raise
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}): {FIX}") from error


def _is_json(line: str | bytes) -> bool:
    try:
        json.loads(line)
    except (RecursionError, ValueError):
        return False
    return True


def _lock_holder(path: Path) -> FileIO:
    """The lock of a new folder next to ``path``. Folders of killed processes, whose lock is free, are removed."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*{PART}"):
        if (lock := try_lock(left / HELD)) is not None:
            shutil.rmtree(left, ignore_errors=True)
            lock.close()
            with suppress(OSError):  # NFS keeps what is open
                left.rmdir()
    while True:
        holder = path.with_name(f".{path.name}.{uuid.uuid4().hex}{PART}")
        holder.mkdir()
        # another process may take it for a leftover before it is locked
        if (lock := try_lock(holder / HELD)) is not None:
            return lock


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write a file of UTF-8 text. Raises UserError as ``atomic_path`` does."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as JSON with sorted keys. Raises ValueError for NaN and infinity."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def is_own(path: Path) -> bool:
    """Whether it is a file: a link in somebody's commit would show or publish what it leads to on this machine."""
    return path.is_file() and not path.is_symlink()


def read_json(path: Path, kind: Any = Any, remedy: str = "`dvc repro` makes it") -> Any:
    """A JSON file as a value of that type. Raises UserError, which ends in ``remedy``, if it is missing or not one."""
    from pydantic import ValidationError  # like numpy below, it takes longer than all that `ddpm --help` needs

    from ddpm.base.variant import quote

    try:
        return _adapter(kind).validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; {remedy}") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {remedy}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]  # the key, its value, and what is allowed
        where = ": ".join(filter(None, [str(path), ".".join(map(str, first["loc"]))]))
        raise UserError(f"{where}: {quote(first['input'])} is not allowed: {first['msg']}; {remedy}") from error


@cache
def _adapter(kind: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def open_array(path: Path, mode: Literal["r", "c"] = "r", remedy: str = "`dvc repro` makes it") -> Any:
    """A .npy file as an array, memory-mapped and read-only, or copied where it is written to. Raises UserError, which
    ends in ``remedy``, when it is missing, damaged or a pickle."""
    import numpy as np

    try:
        return np.lib.format.open_memmap(path, mode=mode)
    except NO_ARRAY as error:
        reason = str(error) or type(error).__name__
        raise UserError(f"{path}: missing, or not an .npy file ({reason}); {remedy}") from error


def write_rows(path: Path, rows: Rows, columns: Iterable[str] = ()) -> None:
    """Write a CSV file. The header starts with ``columns`` and is written even if there are no rows."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys([*columns, *(key for row in rows for key in row)])))
        writer.writeheader()
        for row in rows:
            writer.writerow({key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()})


def sha256(path: Path) -> str:
    """Digest of a file, or of a folder's sorted (relative name, digest) list without compiled Python."""
    if path.is_dir():
        return digest([(name, sha256(file)) for name, file in sorted(below(path).items())])
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def md5(path: Path) -> str:
    """The md5 in dvc.lock: of a file's bytes, or of the list of a folder's files without compiled Python."""
    if not path.is_dir():
        with path.open("rb") as handle:
            return hashlib.file_digest(handle, partial(hashlib.md5, usedforsecurity=False)).hexdigest()
    inside = below(path)
    listing = json.dumps([{"md5": md5(inside[name]), "relpath": name} for name in sorted(inside)], sort_keys=True)
    return f"{hashlib.md5(listing.encode(), usedforsecurity=False).hexdigest()}.dir"


def below(folder: Path) -> dict[str, Path]:
    """Relative name -> file, for each file below the folder except those that .dvcignore names: Python may write them
    at any time, under a temporary name first."""
    files = (file for file in folder.rglob("*") if file.is_file() and file.suffix != ".pyc")
    named = {file.relative_to(folder): file for file in files}
    return {str(name): file for name, file in named.items() if "__pycache__" not in name.parts}


def digest(value: Any) -> str:
    """sha256 of a JSON-serialisable value, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one flat mapping, with keys joined by dots."""
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= flatten(item, f"{prefix}{key}.") if isinstance(item, Mapping) else {f"{prefix}{key}": item}
    return flat
