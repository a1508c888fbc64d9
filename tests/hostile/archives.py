"""Archives of images that are traps."""

import gzip
import io
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from ddpm.variants.datasets.image_folder import ImageFolder
from tests.hostile.case import Case

TAR, PACKED, ZIP = Path("photos.tar"), Path("photos.tar.gz"), Path("photos.zip")
LONG = 3 << 30  # bytes that a header claims
END = bytes(2 * tarfile.BLOCKSIZE)


def header(name: str = "a/1.png", kind: bytes = tarfile.REGTYPE, size: int = 0, link: str = "") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, size, link
    return info.tobuf(tarfile.GNU_FORMAT)


def tar(*members: bytes) -> None:
    TAR.write_bytes(b"".join(members) + END)


def packed(parts: Callable[[], Iterator[bytes]]) -> None:
    with gzip.open(PACKED, "wb", compresslevel=1) as file:
        for part in parts():
            file.write(part)


def long_header(kind: bytes) -> Iterator[bytes]:
    yield header(kind=kind, size=LONG)
    for _ in range(20):
        yield bytes(2**20)


def pax(**records: str) -> bytes:
    text = b"".join(f"{len(key) + len(value) + 5:02d} {key}={value}\n".encode() for key, value in records.items())
    return header(kind=tarfile.XHDTYPE, size=len(text)) + text.ljust(-(-len(text) // 512) * 512, b"\0")


def endless_map() -> Iterator[bytes]:
    """A sparse file with an endless map of holes."""
    yield pax(**{"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "x.png"})
    yield header(size=LONG) + b"99999999999\n"
    for _ in range(20):
        yield b"0\n" * 2**19


def bomb() -> Iterator[bytes]:
    yield header(size=10 * 2**30)
    for _ in range(20):
        yield bytes(2**20)


def zipped(name: str = "a/1.png", content: bytes = b"x", mode: int = 0, method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        archive.writestr(info, content, method)
    return buffer.getvalue()


def with_lies(**fields: tuple[int, bytes]) -> bytes:
    """A zip with bytes of its central directory replaced: offset from its start -> bytes."""
    content = bytearray(zipped())
    start = content.index(b"PK\1\2")
    for offset, value in fields.values():
        content[start + offset : start + offset + len(value)] = value
    return bytes(content)


def damaged(method: int) -> None:
    content = zipped(content=np.random.default_rng(0).bytes(4000), method=method)
    ZIP.write_bytes(content[:300] + bytes(40) + content[340:])


def fetch(path: Path) -> None:
    ImageFolder().download(str(path), Path("raw"))


GIVEN: list[tuple[str, Callable[[], object], Path, str]] = [
    ("a name with ..", lambda: tar(header("../../evil.png")), TAR, "leads outside the archive"),
    ("an absolute name", lambda: tar(header("/tmp/evil.png")), TAR, "leads outside the archive"),  # noqa: S108
    ("a Windows name with ..", lambda: ZIP.write_bytes(zipped("..\\evil.png")), ZIP, "leads outside the archive"),
    ("a symbolic link", lambda: tar(header(kind=tarfile.SYMTYPE, link="/etc/passwd")), TAR, "is a link or a device"),
    ("a hard link", lambda: tar(header(kind=tarfile.LNKTYPE, link="../secret")), TAR, "is a link or a device"),
    ("a device", lambda: tar(header(kind=tarfile.BLKTYPE)), TAR, "is a link or a device"),
    ("a link in a zip", lambda: ZIP.write_bytes(zipped(mode=stat.S_IFLNK | 0o777)), ZIP, "is a link"),
    ("10 GB of zeros in 90 KB", lambda: packed(bomb), PACKED, "holds more than"),
    ("a file that says 4 GB", lambda: ZIP.write_bytes(with_lies(size=(24, b"\xf0\xff\xff\xff"))), ZIP, "holds more"),
    ("a file that says 99 bytes", lambda: ZIP.write_bytes(with_lies(size=(24, b"c"))), ZIP, "broken archive"),
    ("a damaged file of LZMA", lambda: damaged(zipfile.ZIP_LZMA), ZIP, "broken archive"),
    ("attributes of 3 GB", lambda: packed(partial(long_header, tarfile.XHDTYPE)), PACKED, "a header of more"),
    ("a name of 3 GB", lambda: packed(partial(long_header, tarfile.GNUTYPE_LONGNAME)), PACKED, "a header of more"),
    ("an endless map of holes", lambda: packed(endless_map), PACKED, "a header of more"),
    ("an old map of holes", lambda: tar(header(kind=tarfile.GNUTYPE_SPARSE, size=5)), TAR, "a sparse file"),
    ("5,000 headers of headers", lambda: tar(*[pax(path="x")] * 5000, header()), TAR, "RecursionError"),
    ("a member of -1 bytes", lambda: tar(pax(size="-1"), header()), TAR, "a damaged header"),
    ("a directory outside the file", lambda: ZIP.write_bytes(with_lies(at=(42, b"\xff\xff\xff\x7f"))), ZIP, "broken"),
    ("a name that claims to be UTF-8 and is not",
     lambda: ZIP.write_bytes(with_lies(flag=(8, struct.pack("<H", 0x800)), name=(46, b"\xff\xfe"))),
     ZIP, "UnicodeDecodeError"),
    ("an encrypted file", lambda: ZIP.write_bytes(with_lies(flag=(8, b"\1\0"))), ZIP, "is encrypted"),
    ("a web page named .zip", lambda: ZIP.write_text("<!doctype html><h1>Sign in</h1>"), ZIP, "not a zip file"),
    ("no images", lambda: tar(header("a/virus.exe")), TAR, "no images in"),
]  # fmt: skip

CASES = [Case("archive", name, given, partial(fetch, path), line) for name, given, path, line in GIVEN]
