"""The sha256 of what a stage reads, remembered from stage to stage for large files, as DVC remembers its md5."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from ddpm.base import files
from ddpm.base.errors import UserError

MEMORY = Path(".ddpm/digests.json")  # under the repository's root: {files.stamp: sha256}, the oldest first
LARGE = 2**26  # bytes; a smaller file is read in less than 0.1 s
FRESH = 2  # seconds: a file may be written twice within the resolution of its disk's clock, so its stamp proves little
KEPT = 10_000  # of 140 bytes each
CONTENT = TypeAdapter(dict[str, Annotated[str, Field(pattern="^[0-9a-f]{64}$")]])


def read(paths: list[Path]) -> dict[str, str]:
    """``files.sha256`` of each file or folder, by path. A large file is not read again while its stamp is the same."""
    place = Path(os.environ.get("DVC_ROOT", "."), MEMORY)
    memory, new = _remembered(place), dict[str, str]()
    found = {}
    for path in paths:
        large: dict[str, str] = {}
        for file in path.rglob("*") if path.is_dir() else [path]:
            if file.is_file() and (at := file.stat()).st_size >= LARGE:
                old = time.time() - max(at.st_mtime, at.st_ctime) > FRESH
                stamp = files.stamp(file)
                digest = large[str(file.relative_to(path))] = memory.get(stamp) or files.sha256(file)
                if old and files.stamp(file) == stamp:
                    new[stamp] = digest
        found[str(path)] = large.get(".") or files.sha256(path, large)
    if not new.keys() <= memory.keys():
        # another stage may have written meanwhile
        kept = {stamp: digest for stamp, digest in _remembered(place).items() if stamp not in new} | new
        with suppress(UserError), files.atomic_path(place) as temporary:  # without it, files are just read again
            temporary.write_text(json.dumps(dict(list(kept.items())[-KEPT:])))
    return found


def _remembered(place: Path) -> dict[str, str]:
    """What the memory says, or nothing if that cannot be read, or is anything else."""
    try:
        return CONTENT.validate_json(place.read_bytes())
    except (OSError, ValidationError):
        return {}
