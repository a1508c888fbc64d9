"""Folders and archives as a stream of named files. Nothing is extracted: members are read as streams.

Archives come from outside, so names, links and sizes are checked before any content is used.
"""

import errno
import gzip
import lzma
import math
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, NamedTuple, cast

from ddpm.base.errors import UserError

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
ZIPPED = (".zip", ".npz")  # NumPy's .npz is a zip of .npy files
MAX_MEMBERS = 2_000_000
# Photos hardly compress: an archive that grows a hundredfold is a bomb, or not an archive of photos.
MAX_EXPANSION = 100
ALWAYS_ALLOWED_BYTES = 2**30

# tarfile reads a member's name, attributes and map of holes whole before it returns the member; an attacker's may be
# gigabytes long
MAX_HEADER_BYTES = 2**20

# what the readers raise for damaged content and for damaged tables of contents
BROKEN = (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError, IndexError,
          MemoryError, NotImplementedError, OverflowError, RecursionError, ValueError, struct.error)  # fmt: skip


class Member(NamedTuple):
    """One file: its relative name with ``/``, its size in bytes, and a stream, readable until the next member."""

    name: str
    size: int
    stream: IO[bytes]


def is_archive(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


@contextmanager
def open_members(source: Path) -> Iterator[Iterator[Member]]:
    """The files in a folder (sorted) or an archive (in its order).

    Raises UserError, also from reads in the body: when the archive is truncated or broken, when a member's name is
    absolute or contains ``..``, when a member is a link, a device or encrypted, when a limit is exceeded, or when a
    folder has a link in it.
    """
    try:
        if source.is_dir():
            yield _folder(source)
        elif source.name.lower().endswith(ZIPPED):
            yield _check_members(source, _zip(source))
        elif is_archive(source.name):
            yield _check_members(source, _tar(source))
        else:
            raise UserError(f"{source}: neither a folder nor an archive; allowed: a folder, {', '.join(SUFFIXES)}")
    except (PermissionError, FileNotFoundError, ProcessLookupError) as error:  # /proc has files that come and go
        raise UserError(f"{error.filename or source}: cannot be read ({error.strerror}); make it readable") from error
    except (*BROKEN, OSError) as error:
        # from bz2; from seeking before the start of the file, or far beyond its end
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        kind = type(error).__name__
        raise UserError(f"{source}: truncated or broken archive ({kind}: {error}); fetch it again") from error


def _folder(source: Path) -> Iterator[Member]:
    def refuse(error: OSError) -> None:
        raise error

    for folder, folders, files in os.walk(source, onerror=refuse):
        folders.sort()
        for path in (Path(folder, name) for name in (*folders, *sorted(files))):
            if path.is_symlink():  # whoever sent the folder would choose what of this disk is read
                raise UserError(f"{path}: a link in a folder of images: put the files there, or remove it")
            if path.is_file():
                with path.open("rb") as stream:
                    yield Member(path.relative_to(source).as_posix(), path.stat().st_size, stream)


class _Bounded:
    """The bytes of a tar, of which tarfile may read ``left`` before this refuses."""

    def __init__(self, file: IO[bytes]):
        self.file = file
        self.left: float = MAX_HEADER_BYTES
        self.last = b""  # what was read last
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        self.left -= size
        if self.left < 0:
            raise tarfile.TarError(f"a header of more than {MAX_HEADER_BYTES:,} bytes")
        self.last = self.file.read(size)
        return self.last


def members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The members in turn, without keeping them: tarfile's list takes a kilobyte per member."""
    while (member := archive.next()) is not None:
        archive.members.clear()  # type: ignore[attr-defined]
        yield member


def _tar(source: Path) -> Iterator[Member]:
    with source.open("rb") if source.suffix.lower() == ".tar" else gzip.open(source) as file:
        stream = _Bounded(cast(IO[bytes], file))
        with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r:") as archive:
            # newer Pythons pass over a first header that they cannot use; an empty archive begins with zeros
            if archive.firstmember is None and stream.last != bytes(tarfile.BLOCKSIZE):  # type: ignore[attr-defined]
                raise tarfile.ReadError("a damaged header")
            for member in members(archive):
                if member.size < 0 or member.issparse():
                    raise tarfile.TarError("a damaged header, or a sparse file")
                if not (member.isfile() or member.isdir()):
                    raise UserError(f"{source}: member {member.name!r} is a link or a device; only files are allowed")
                if content := archive.extractfile(member):
                    stream.left = math.inf
                    yield Member(member.name, member.size, content)
                    stream.left = MAX_HEADER_BYTES
        # A block of zeros ends a complete archive; tarfile also stops at a broken header, or where there is no more.
        if stream.last != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("no end-of-archive mark")
        file.read(2**20)  # gzip verifies its checksum when it reaches the end


def _zip(source: Path) -> Iterator[Member]:
    with zipfile.ZipFile(source) as archive:
        for info in archive.infolist():
            if stat.S_ISLNK(info.external_attr >> 16):
                raise UserError(f"{source}: member {info.filename!r} is a link; only files are allowed")
            if not info.filename:  # of which newer Pythons make a file that is not there
                raise zipfile.BadZipFile("a file without a name")
            if info.flag_bits & 1:
                raise UserError(f"{source}: member {info.filename!r} is encrypted; unpack the archive by hand")
            if not info.is_dir():
                with archive.open(info) as stream:
                    yield Member(info.filename, info.file_size, stream)


def _check_members(source: Path, files: Iterator[Member]) -> Iterator[Member]:
    """The members, by names that stay inside the archive, and within the limits."""
    allowed = max(ALWAYS_ALLOWED_BYTES, MAX_EXPANSION * source.stat().st_size)
    total = 0
    for count, member in enumerate(files, start=1):
        path = PurePosixPath(member.name.replace("\\", "/"))
        if path.is_absolute() or PureWindowsPath(member.name).drive or ".." in path.parts:
            raise UserError(f"{source}: member {member.name!r} leads outside the archive; do not trust this file")
        total += member.size
        if count > MAX_MEMBERS or total > allowed:
            raise UserError(f"{source}: holds more than {MAX_MEMBERS:,} files or {allowed:,} bytes; unpack it by hand")
        yield member
