"""The model and the images that a request names, the parts of them to draw, and the picture of the results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ddpm.base import variant
from ddpm.base.errors import UserError
from ddpm.base.paths import MODEL_FILE, PROCESSED
from ddpm.base.sections import Shape, parse
from ddpm.compute import devices
from ddpm.data.pixels import BROKEN, explain, to_pixels
from ddpm.data.processed import open_split
from ddpm.diffusion.chain import from_images, to_images
from ddpm.model.model_file import load_model
from ddpm.params import config, credit
from ddpm.pictures import grids
from ddpm.sampling.generator import Generator
from ddpm.sampling.sample_params import Sample
from ddpm.sources.photos import FORMATS
from ddpm.use.request import Request

ROWS = 8  # of the test split, if no images are given


def open_request(request: Request, sampler: str, clip: bool, classes: Sequence[str] = ()) -> tuple[Generator, Tensor]:
    """The model's generator, of ``classes`` or of none, and the given images, (B, C, H, W) float32 on its device.

    Raises UserError for a wrong option, or a model or image that cannot be read, or a model that needs classes.
    """
    if request.images and request.rows:
        raise UserError("--images and --rows: give one of them")
    drawn_by = variant.build("samplers", {"name": sampler}, "sampler")
    drawn = {"count": 1, "steps": request.steps, "sampler": drawn_by, "clip_denoised": clip}
    options = parse(drawn | ({"classes": classes} if classes else {}), "sample", Sample)
    device = devices.resolve(request.device)
    model = load_model(request.model / MODEL_FILE.name if request.model.is_dir() else request.model, device)
    shape, known = model.image_shape, model.config.model.classes
    if known and not classes and model.label_dropout == 0:
        raise UserError(
            "--class: missing, and train.label_dropout: 0 did not train the model without a class; give the images' "
            f"classes: 0..{known - 1} or their names"
        )
    images = read_pictures(request.images, shape, "--images") if request.images else read_rows(request.rows, shape)
    generator = Generator.of(model, options, device)
    if not classes:  # and not of all
        generator.classes = None
    return generator, from_images(torch.stack(list(images)).to(device))


def save(rows: Iterable[Tensor], path: Path) -> None:
    """Write a picture of rows of images, each (B, C, H, W) in [-1, 1]."""
    shown = torch.stack(list(rows))
    grids.save_grid(to_images(shown.flatten(0, 1)).cpu(), path, columns=shown.shape[1])


def read_pictures(paths: Iterable[Path], shape: Shape, flag: str) -> Iterable[Tensor]:
    """Picture files as images of that shape, (C, H, W) uint8; the rest is cropped away.

    Raises UserError, which starts with ``flag``, for a file that cannot be read.
    """
    for path in paths:
        try:
            with Image.open(path, formats=FORMATS) as image:
                pixels = to_pixels(image, shape, "crop")
        except BROKEN as error:
            raise UserError(f"{flag}: {path}: cannot be read as a picture ({explain(error)})") from error
        yield torch.from_numpy(pixels.copy())


def read_rows(numbers: Sequence[int], shape: Shape) -> Iterable[Tensor]:
    """Images of the test split, (B, C, H, W) uint8, by number; without numbers the first ``ROWS``.

    Raises UserError if they are not of params.yaml or do not have the model's shape, or there is no such row.
    """
    credit.refuse_other_params(config.load(), "preprocess")
    test, _ = open_split(PROCESSED, "test")
    if test.shape[1:] != shape:
        raise UserError(f"{PROCESSED}: its images are {test.shape[1:]}, the model's {tuple(shape)}; pass --images")
    wanted = list(numbers) or list(range(min(ROWS, len(test))))
    if wrong := [row for row in wanted if not 0 <= row < len(test)]:
        raise UserError(f"--rows: {wrong[0]} is not allowed; the test split has rows 0 to {len(test) - 1}")
    return torch.from_numpy(test[wanted])


def read_part(text: str, shape: Shape) -> Tensor:
    """Where to draw, a bool (H, W): a side's half, the centre, or the white parts of a picture file.

    Raises UserError if ``text`` is none of these.
    """
    height, width = shape.height, shape.width
    boxes = {
        "left": (slice(None), slice(0, width // 2)),
        "right": (slice(None), slice(width // 2, None)),
        "top": (slice(0, height // 2), slice(None)),
        "bottom": (slice(height // 2, None), slice(None)),
        "centre": (slice(height // 4, height - height // 4), slice(width // 4, width - width // 4)),
    }
    if text not in boxes:
        if not Path(text).exists():
            raise UserError(f"--part: {text} is neither a file nor one of {', '.join(boxes)}")
        (pixels,) = read_pictures([Path(text)], shape._replace(channels=1), "--part")
        return pixels[0] > 127
    unknown = torch.zeros(height, width, dtype=torch.bool)
    unknown[boxes[text]] = True
    return unknown
