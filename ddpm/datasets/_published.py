"""Datasets of a few files whose md5 sums are published."""

from __future__ import annotations

import lzma
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import IO, ClassVar

from ddpm.archives import reading
from ddpm.datasets import Dataset, _sources
from ddpm.errors import UserError

MAX_FILE_BYTES = 2**29


class Published(Dataset):
    """The raw folder holds exactly the files of ``md5``, each with its published sum.

    address: the archive that holds them, or what their own addresses begin with.
    md5: file -> its published sum; repacked_md5: file -> that of another packing of the same content.
    """

    address: ClassVar[str]
    md5: ClassVar[dict[str, str]]
    repacked_md5: ClassVar[dict[str, str]] = {}

    def fetch(self, source: str | None, folder: Path) -> None:
        """The files are found by their names wherever they lie; ``.xz`` is unpacked."""
        with TemporaryDirectory(dir=folder.parent) as scratch:
            found = _sources.locate(source, self.address, tuple(self.md5), Path(scratch))
            with reading(found) as members:
                for member in members:
                    name = PurePosixPath(member.name).name
                    wanted = folder / name.removesuffix(".xz")
                    if wanted.name in self.md5 and not wanted.exists():
                        try:
                            _copy(lzma.open(member.stream) if name.endswith(".xz") else member.stream, wanted)
                        except (lzma.LZMAError, EOFError) as error:
                            raise UserError(f"{found}: {member.name} is truncated or broken ({error})") from error
        if missing := sorted(file for file in self.md5 if not (folder / file).exists()):
            raise UserError(f"{found}: {self.name} needs {', '.join(missing)}, which come from {self.address}")
        self.verify(folder)

    def verify(self, raw: Path) -> None:
        """Raises UserError when a file lacks or is not the published one."""
        for file, published in self.md5.items():
            _sources.verify(raw / file, "md5", published, self.repacked_md5.get(file, published))


def _copy(stream: IO[bytes], path: Path) -> None:
    """Raises UserError beyond MAX_FILE_BYTES: a small xz file can hold petabytes."""
    with path.open("wb") as out:
        while chunk := stream.read(_sources.CHUNK):
            if out.tell() + len(chunk) > MAX_FILE_BYTES:
                raise UserError(f"{path.name}: larger than {MAX_FILE_BYTES:,} bytes; not the published file")
            out.write(chunk)
