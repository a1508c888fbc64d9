"""One picture, of any size and mode -> uint8 of one shape."""

import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from PIL.Image import Transpose

from ddpm.base.errors import UserError
from ddpm.base.sections import Shape
from ddpm.data.data_params import Resize
from ddpm.sources.dataset import MODES

Pixels = NDArray[np.uint8]

MAX_PIXELS = 90_000_000  # 270 MB decoded: more is a decompression bomb, or a scan to cut up first
TURNS = {2: Transpose.FLIP_LEFT_RIGHT, 3: Transpose.ROTATE_180, 4: Transpose.FLIP_TOP_BOTTOM, 5: Transpose.TRANSPOSE,
         6: Transpose.ROTATE_270, 7: Transpose.TRANSVERSE, 8: Transpose.ROTATE_90}  # fmt: skip
# what PIL's readers raise for damaged files
BROKEN = (Image.DecompressionBombError, EOFError, IndexError, OSError, SyntaxError, TypeError, ValueError,
          struct.error, zlib.error)  # fmt: skip


def to_pixels(image: Image.Image | Pixels, shape: Shape, resize: Resize) -> Pixels:
    """A PIL image of any size and mode, or (H, W) or (H, W, C) uint8, as uint8 of the ``shape``.

    It is turned upright by its EXIF orientation, put on white if transparent, rounded from 16 bits to 8, and resized
    with an antialiased bicubic filter, an array's channels each by itself. Raises what PIL raises for a broken file,
    ValueError for an image that is too large, has no fixed range, or is an array of another number of channels, and
    UserError if data.channels is neither 1 nor 3 for a picture.
    """
    if isinstance(image, np.ndarray):
        planes = image.reshape(*image.shape[:2], -1).transpose(2, 0, 1)
        if planes.shape == shape:  # as PIL would return it, at an eighth of the time
            return planes
        if image.ndim == 3 and len(planes) != 3:
            if len(planes) != shape.channels:
                raise ValueError(f"{len(planes)} channels, but data.channels is {shape.channels}")
            gray = shape._replace(channels=1)
            return np.concatenate([to_pixels(Image.fromarray(plane), gray, resize) for plane in planes])
        image = Image.fromarray(image)
    if shape.channels not in MODES:
        raise UserError(f"data.channels: {shape.channels} is not allowed for pictures; allowed: 1 and 3")
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{image.width}x{image.height} pixels; at most {MAX_PIXELS:,} are allowed")
    image, mode = _opaque(_upright(image)), MODES[shape.channels]
    if image.mode != mode:  # convert always copies
        image = image.convert(mode)
    channels, height, width = shape
    size, bicubic = (width, height), Image.Resampling.BICUBIC
    image = ImageOps.fit(image, size, bicubic) if resize == "crop" else image.resize(size, bicubic)
    return np.asarray(image).reshape(height, width, channels).transpose(2, 0, 1)


def explain(error: Exception) -> str:
    """Why a picture cannot be read. error: one of BROKEN."""
    if isinstance(error, UnidentifiedImageError):  # its own text is the address of a buffer
        return "not an image, or not in a supported format"
    return str(error) or type(error).__name__


def _upright(image: Image.Image) -> Image.Image:
    """The image turned by its EXIF orientation alone: ``ImageOps.exif_transpose`` writes all tags again, and fails if
    one has an odd type."""
    image.load()
    turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    return image if turn is None else image.transpose(turn)


def _opaque(image: Image.Image) -> Image.Image:
    """The image with 8 bits per channel and no transparency. Raises ValueError if its range is not fixed."""
    if image.mode == "I" or image.mode.startswith("I;16"):
        levels = np.asarray(image)
        if levels.min() < 0 or levels.max() > np.iinfo(np.uint16).max:
            raise ValueError("32-bit integers without a fixed range")
        return Image.fromarray(((levels.astype(np.int32) + 128) // 257).astype(np.uint8))  # 65535 / 255 = 257
    if image.mode == "F":
        raise ValueError("floating point without a fixed range")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image
