"""Datasets of a few files with published md5 sums.

torchvision's own datasets know no mirrors or folders, do not limit what a download or a packed file may take, and
unpickle CIFAR. What it reads as we would, it reads (ddpm/sources/idx.py).
"""

import gzip
import zlib
from pathlib import Path, PurePosixPath
from typing import ClassVar

from ddpm.base import files
from ddpm.base.errors import UserError
from ddpm.sources import fetch as _sources
from ddpm.sources.archives import open_members
from ddpm.sources.dataset import Dataset

MAX_FILE_BYTES = 2**28  # a small packed file can expand to petabytes


class Published(Dataset):
    """The raw folder holds exactly the files of ``md5``, each with its published sum.

    address: the archive that holds them, or the start of their own addresses, which end in ``packing``.
    md5: file -> the sum of what it unpacks to: others may give the same data another gzip header.
    """

    verified = True
    address: ClassVar[str]
    packing: ClassVar[str] = ""
    md5: ClassVar[dict[str, str]]

    def fetch(self, source: str | None, folder: Path) -> None:
        """The files are found by name in any subfolder; ``.gz`` is unpacked."""
        place = _sources.locate(source, self.address, tuple(f"{file}{self.packing}" for file in self.md5), folder)
        with open_members(place) as members:
            for name, _, stream in members:
                path = folder / PurePosixPath(name).name.removesuffix(".gz")
                if path.name not in self.md5 or path.exists():
                    continue
                try:
                    with gzip.open(stream) if name.endswith(".gz") else stream as file:
                        content = file.read(MAX_FILE_BYTES + 1)
                except (gzip.BadGzipFile, zlib.error, EOFError) as error:
                    raise UserError(f"{name} is truncated or broken ({error}); fetch it again") from error
                if len(content) > MAX_FILE_BYTES:
                    raise UserError(f"{name}: larger than {MAX_FILE_BYTES:,} bytes; not the published file")
                path.write_bytes(content)
        if missing := sorted(file for file in self.md5 if not (folder / file).exists()):
            raise UserError(f"{place}: {self.name} needs {', '.join(missing)}; get them from {self.address}")
        self.verify(folder)

    def verify(self, raw: Path) -> None:
        """Raises UserError when a file is missing or is not the published one."""
        for file, published in self.md5.items():
            _sources.verify(raw / file, files.md5, published)
