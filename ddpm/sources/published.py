"""Datasets of a few files with published md5 sums."""

from __future__ import annotations

import lzma
from contextlib import nullcontext
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import ClassVar

from ddpm.base.errors import UserError
from ddpm.sources import fetch as _sources
from ddpm.sources.archives import Member, reading
from ddpm.sources.dataset import Dataset

MAX_FILE_BYTES = 2**29


class Published(Dataset):
    """The raw folder holds exactly the files of ``md5``, each with its published sum.

    address: the archive that holds them, or the start of their own addresses.
    md5: file -> its published sum.
    """

    address: ClassVar[str]
    md5: ClassVar[dict[str, str]]

    def fetch(self, source: str | None, folder: Path) -> None:
        """The files are found by name in any subfolder; ``.xz`` is unpacked."""
        with TemporaryDirectory(dir=folder.parent) as scratch:
            found = _sources.locate(source, self.address, tuple(self.md5), Path(scratch))
            with reading(found) as members:
                for member in members:
                    wanted = folder / PurePosixPath(member.name).name.removesuffix(".xz")
                    if wanted.name in self.md5 and not wanted.exists():
                        _copy(member, wanted)
        if missing := sorted(file for file in self.md5 if not (folder / file).exists()):
            raise UserError(f"{found}: {self.name} needs {', '.join(missing)}; get them from {self.address}")
        self.verify(folder)

    def verify(self, raw: Path) -> None:
        """Raises UserError when a file is missing or is not the published one."""
        for file, published in self.md5.items():
            _sources.verify(raw / file, "md5", published)


def _copy(member: Member, path: Path) -> None:
    """Raises UserError above MAX_FILE_BYTES: a small xz file can expand to petabytes."""
    packed = member.name.endswith(".xz")
    try:
        with path.open("wb") as out, lzma.open(member.stream) if packed else nullcontext(member.stream) as stream:
            while chunk := stream.read(_sources.CHUNK):
                if out.tell() + len(chunk) > MAX_FILE_BYTES:
                    raise UserError(f"{path.name}: larger than {MAX_FILE_BYTES:,} bytes; not the published file")
                out.write(chunk)
    except (lzma.LZMAError, EOFError) as error:
        raise UserError(f"{member.name} is truncated or broken ({error}); fetch it again") from error
