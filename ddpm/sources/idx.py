"""The idx format of MNIST and similar datasets (yann.lecun.com/exdb/mnist)."""

import gzip
import hashlib
import math
import struct
import zlib
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ddpm.base import files
from ddpm.base.errors import UserError
from ddpm.sources.dataset import Records
from ddpm.sources.fetch import CHUNK, verify
from ddpm.sources.published import Published

UNSIGNED_BYTE = 0x08
MAX_BYTES = 2**30


class IdxDataset(Published):
    """Four gzipped idx files: the images, 28x28 gray, and labels of 60,000 train and 10,000 test examples."""

    classes: ClassVar[tuple[str, ...]]
    unpacked: ClassVar[dict[str, str]]
    """file -> md5 of what it unpacks to: Debian, for one, gives the same data another gzip header."""

    def verify(self, raw: Path) -> None:
        for file, published in self.md5.items():
            path = raw / file
            if not (path.exists() and _unpacked_md5(path) == self.unpacked[file]):
                verify(path, files.md5, published)

    def read(self, raw: Path) -> Records:
        def split(prefix: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
            labels = read_idx(raw / f"{prefix}-labels-idx1-ubyte.gz", 1)
            return read_idx(raw / f"{prefix}-images-idx3-ubyte.gz", 3), labels

        return Records.of_arrays({"train": split("train"), "test": split("t10k")}, self.classes)


def _unpacked_md5(path: Path) -> str | None:
    """None if it does not unpack, or to more than an idx file may hold."""
    digest, size = hashlib.md5(usedforsecurity=False), 0
    try:
        with gzip.open(path) as stream:
            while size <= MAX_BYTES and (chunk := stream.read(CHUNK)):
                digest.update(chunk)
                size += len(chunk)
    except (OSError, EOFError, zlib.error):
        return None
    return digest.hexdigest() if size <= MAX_BYTES else None


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """A gzipped idx file of unsigned bytes: (N,), or (N, H, W).

    Raises UserError unless it holds exactly what its header announces, with the expected number of dimensions.
    """
    try:
        with gzip.open(path) as stream:
            header = stream.read(4)
            if header != bytes([0, 0, UNSIGNED_BYTE, dimensions]):
                raise UserError(f"{path}: not an idx file of {dimensions}-dimensional bytes (it begins {header!r})")
            shape = struct.unpack(f">{dimensions}I", stream.read(4 * dimensions))
            size = math.prod(shape)
            if size > MAX_BYTES or max(shape) > MAX_BYTES:  # a size of 0 can hide a huge length
                shown = " x ".join(f"{length:,}" for length in shape)
                raise UserError(f"{path}: announces {shown} bytes; at most {MAX_BYTES:,} are allowed")
            content = bytearray()  # read(size) would first allocate whatever the header announces
            while len(content) <= size and (chunk := stream.read(CHUNK)):
                content += chunk
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; run `dvc repro download`") from error
    except (gzip.BadGzipFile, EOFError, IsADirectoryError, zlib.error, struct.error) as error:
        raise UserError(f"{path}: truncated or broken gzip file ({error}); fetch it again") from error
    if len(content) != size:
        raise UserError(f"{path}: holds {'more' if len(content) > size else 'fewer'} than the {size:,} bytes announced")
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)
