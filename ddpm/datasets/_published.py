"""Datasets of a few files whose md5 sums are published, and which torchvision can download."""

from __future__ import annotations

import http.client
import lzma
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import IO, ClassVar

from ddpm.archives import reading
from ddpm.datasets import Dataset, _sources
from ddpm.errors import UserError

MAX_FILE_BYTES = 2**29


class Published(Dataset):
    """The raw folder holds exactly the files of ``md5``, each with its published sum.

    torchvision_name: the class of torchvision.datasets that downloads them; address: where it looks.
    mirrored: the files that a mirror of the address holds.
    md5: file -> its published sum; repacked_md5: file -> sums of other packings of the same content.
    """

    torchvision_name: ClassVar[str]
    address: ClassVar[str]
    mirrored: ClassVar[tuple[str, ...]]
    md5: ClassVar[dict[str, str]]
    repacked_md5: ClassVar[dict[str, tuple[str, ...]]] = {}

    def fetch(self, source: str | None, folder: Path) -> None:
        with TemporaryDirectory(dir=folder.parent) as scratch:
            if source is None:
                self._by_torchvision(Path(scratch))
                found = Path(scratch)
            else:
                found = _sources.locate(source, self.mirrored, Path(scratch))
            self._collect(found, folder)

    def _by_torchvision(self, scratch: Path) -> None:
        from torchvision import datasets

        try:
            with _socket_timeout(_sources.TIMEOUT_S):
                getattr(datasets, self.torchvision_name)(scratch, download=True)
        except (OSError, RuntimeError, http.client.HTTPException) as error:
            raise _sources.unreachable(self.address, error, *self.mirrored) from error

    def _collect(self, found: Path, folder: Path) -> None:
        """Copy the wanted files, by their names wherever they lie, and verify each; ``.xz`` is unpacked."""
        with reading(found) as members:
            for member in members:
                file = PurePosixPath(member.name).name
                wanted = folder / file.removesuffix(".xz")
                if wanted.name in self.md5 and not wanted.exists():
                    try:
                        _copy(member.stream, wanted, lzma.LZMAFile if file.endswith(".xz") else nullcontext)
                    except (lzma.LZMAError, EOFError) as error:
                        raise UserError(f"{found}: {member.name} is truncated or broken ({error})") from error
        missing = sorted(file for file in self.md5 if not (folder / file).exists())
        if missing:
            raise UserError(
                f"{found}: {self.name} needs {', '.join(missing)}, which are not there; "
                f"they come from {self.address} ({', '.join(self.mirrored)})"
            )
        self.verify(folder)

    def verify(self, raw: Path) -> None:
        """Raises UserError when a file lacks or is not the published one."""
        for file, published in self.md5.items():
            _sources.verify(raw / file, "md5", published, *self.repacked_md5.get(file, ()))


def _copy(packed: IO[bytes], path: Path, unpack: Callable[[IO[bytes]], AbstractContextManager[IO[bytes]]]) -> None:
    """Raises UserError beyond MAX_FILE_BYTES: a small xz file can hold petabytes."""
    with path.open("wb") as out, unpack(packed) as stream:
        while chunk := stream.read(_sources.CHUNK):
            if out.tell() + len(chunk) > MAX_FILE_BYTES:
                raise UserError(f"{path.name}: larger than {MAX_FILE_BYTES:,} bytes; not the published file")
            out.write(chunk)


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """torchvision sets no timeout; without one a silent network hangs for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
