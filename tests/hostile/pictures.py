"""Pictures that break their decoder, or the machine."""

import io
import struct
import zlib
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from ddpm.base.sections import parse
from ddpm.data.data_params import Data
from ddpm.data.preprocessing import preprocess
from ddpm.variants.datasets.image_folder import ImageFolder
from tests.hostile.case import Case


def data(**changes: object) -> Data:
    chosen = {"dataset": ImageFolder(), "image_size": 8, "channels": 3, "test_fraction": 0.5}
    return parse({**chosen, **changes}, "data", Data)


def encoded(format: str, mode: str = "RGB") -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, format)
    return buffer.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    """A PNG without pixels, whatever its header says."""
    shape = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + shape + b"".join(chunks) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def zip_of_text() -> bytes:
    packed = zlib.compress(bytes(200 * 2**20), 9)
    return png(8, 8, chunk(b"zTXt", b"Comment\0\0" + packed))


def floats() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8), np.nan, dtype=np.float32)).save(buffer, "TIFF")
    return buffer.getvalue()


def put(name: str, content) -> None:
    written = content if isinstance(content, bytes) else content()
    for folder in ("a", "b"):
        path = Path("photos") / folder / name
        path.parent.mkdir(parents=True)
        path.write_bytes(written)
    ImageFolder().download("photos", Path("raw"))


PICTURES = [
    ("a PNG that says 50,000 x 50,000", "1.png", png(50_000, 50_000), "could be decompression bomb"),
    ("a PNG of 95 million pixels", "1.png", png(10_000, 9_500), "at most 90,000,000 are allowed"),
    ("a PNG of width 0", "1.png", png(0, 8), "cannot be read"),
    ("a PNG with 200 MB of packed text", "1.png", zip_of_text, "Decompressed data too large"),
    ("half a JPEG", "1.jpg", encoded("JPEG")[:600], "cannot be read"),
    ("text named .png", "1.png", b"hello", "not an image, or not in a supported format"),
    ("a script in SVG named .gif", "1.gif", b"<svg><script>alert(1)</script></svg>", "not an image, or not"),
    ("a TIFF of NaN", "1.tif", floats(), "floating point without a fixed range"),
    ("a TIFF whose next page is itself", "1.tif", b"II*\0\x08\0\0\0\0\0\x08\0\0\0", "cannot be read"),
    ("a broken file named with a line break and escape codes", "1\n\x1b[2J.png", b"", "1 \\x1b[2J.png"),
]


def decode() -> None:
    preprocess(data(), Path("raw"), Path("processed"))


CASES = [Case("picture", name, partial(put, file, content), decode, line) for name, file, content, line in PICTURES]
