"""Datasets of a few files with published md5 sums."""

import lzma
from pathlib import Path, PurePosixPath
from typing import ClassVar

from ddpm.base import files
from ddpm.base.errors import UserError
from ddpm.sources import fetch as _sources
from ddpm.sources.archives import reading
from ddpm.sources.dataset import Dataset

MAX_FILE_BYTES = 2**28  # a small xz file can expand to petabytes


class Published(Dataset):
    """The raw folder holds exactly the files of ``md5``, each with its published sum.

    address: the archive that holds them, or the start of their own addresses.
    md5: file -> its published sum.
    """

    address: ClassVar[str]
    md5: ClassVar[dict[str, str]]

    def fetch(self, source: str | None, folder: Path) -> None:
        """The files are found by name in any subfolder; ``.xz`` is unpacked."""
        found = _sources.locate(source, self.address, tuple(self.md5), folder)
        with reading(found) as members:
            for name, _, stream in members:
                wanted = folder / PurePosixPath(name).name.removesuffix(".xz")
                if wanted.name not in self.md5 or wanted.exists():
                    continue
                try:
                    with lzma.LZMAFile(stream) if name.endswith(".xz") else stream as file:
                        content = file.read(MAX_FILE_BYTES + 1)
                except (lzma.LZMAError, EOFError) as error:
                    raise UserError(f"{name} is truncated or broken ({error}); fetch it again") from error
                if len(content) > MAX_FILE_BYTES:
                    raise UserError(f"{name}: larger than {MAX_FILE_BYTES:,} bytes; not the published file")
                wanted.write_bytes(content)
        if missing := sorted(file for file in self.md5 if not (folder / file).exists()):
            raise UserError(f"{found}: {self.name} needs {', '.join(missing)}; get them from {self.address}")
        self.verify(folder)

    def own_name(self, source: str | None) -> None:
        """A mirror has the same files."""

    def verify(self, raw: Path) -> None:
        """Raises UserError when a file is missing or is not the published one."""
        for file, published in self.md5.items():
            _sources.verify(raw / file, files.md5, published)
