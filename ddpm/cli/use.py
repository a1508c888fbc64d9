"""What each command of ``ddpm use`` does."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ddpm.base import variant
from ddpm.base.errors import UserError
from ddpm.base.paths import PROCESSED
from ddpm.base.settings import Shape, section
from ddpm.cli.arguments import ROWS, SIDES
from ddpm.cli.terminal import picture_path
from ddpm.compute import devices
from ddpm.data.pixels import BROKEN, to_pixels
from ddpm.data.processed import open_split
from ddpm.diffusion.chain import from_images, to_images
from ddpm.model.file import load_model
from ddpm.pictures import grids
from ddpm.sampling.generator import Generator
from ddpm.sampling.settings import Sample
from ddpm.sources.photos import FORMATS
from ddpm.use import edits


def inpaint(parsed: argparse.Namespace) -> None:
    generator, images = _opened(parsed, "ancestral", parsed.classes, clip=True)
    if parsed.rounds < 1:
        raise UserError(f"--rounds: {parsed.rounds} is not allowed; at least 1")
    unknown = _part(parsed.part, Shape(*images.shape[1:])).to(images.device)
    drawn = edits.inpaint(generator, images, unknown, parsed.seed, parsed.rounds)
    _save([images, images.masked_fill(unknown, 0), drawn], parsed.out)
    print(f"{parsed.out}: rows of the images, of the parts that are kept, and of the results")


def vary(parsed: argparse.Namespace) -> None:
    generator, images = _opened(parsed, "ancestral", parsed.classes, clip=True)
    for strength in parsed.strengths:
        if not 0 < strength <= 1:
            raise UserError(f"--strengths: {strength} is not allowed; above 0 and up to 1")
    varied = [edits.vary(generator, images, strength, parsed.seed) for strength in parsed.strengths]
    _save([images, *varied], parsed.out)
    print(f"{parsed.out}: a row of the images, and one for each strength")


def interpolate(parsed: argparse.Namespace) -> None:
    generator, images = _opened(parsed, "ddim", clip=False)
    if len(images) < 2 or parsed.count < 2:
        raise UserError(f"interpolate: {len(images)} images, --count: {parsed.count}; at least 2 of each are needed")
    _save(edits.interpolate(generator, images, parsed.count), parsed.out)
    print(f"{parsed.out}: a row from each image to the next")


def invert(parsed: argparse.Namespace) -> None:
    generator, images = _opened(parsed, "ddim", clip=False)
    noise = edits.invert(generator, images)
    back = edits.decode(generator, noise)
    _save([images, noise / 3, back], parsed.out)
    worst = float((back.clamp(-1, 1) - images).abs().max()) * 127.5
    print(f"{parsed.out}: rows of the images, their noise, and what it becomes; largest error {worst:.1f} of 255")


def _opened(
    parsed: argparse.Namespace, sampler: str, classes: list[str] | None = None, *, clip: bool
) -> tuple[Generator, Tensor]:
    """The model's generator, of ``classes`` or of none, and the given images, (B, C, H, W) float32 on its device."""
    picture_path(parsed.out)
    chosen = variant.build("samplers", {"name": sampler}, "sampler")
    drawn = {"count": 1, "steps": parsed.steps, "sampler": chosen, "clip_denoised": clip}
    options = section(Sample, drawn | ({"classes": tuple(classes)} if classes else {}))
    device = devices.resolve(parsed.device)
    model = load_model(parsed.model, device)
    shape = model.image_shape
    images = _pictures(parsed.images, shape, "--images") if parsed.images else _rows(parsed.rows, shape)
    generator = Generator.of(model, options, device)
    if classes is None:  # and not of all
        generator.classes = None
    return generator, from_images(torch.stack(list(images)).to(device))


def _pictures(paths: Iterable[Path], shape: Shape, flag: str) -> Iterable[Tensor]:
    for path in paths:
        try:
            with Image.open(path, formats=FORMATS) as image:
                pixels = to_pixels(image, shape, "crop")
        except BROKEN as error:
            raise UserError(f"{flag}: {path}: cannot be read as a picture ({error})") from error
        yield torch.from_numpy(pixels.copy())


def _rows(rows: list[int] | None, shape: Shape) -> Iterable[Tensor]:
    test, _ = open_split(PROCESSED, "test")
    if test.shape[1:] != shape:
        raise UserError(f"{PROCESSED}: its images are {test.shape[1:]}, the model's {tuple(shape)}; pass --images")
    chosen = rows or list(range(min(ROWS, len(test))))
    if wrong := [row for row in chosen if not 0 <= row < len(test)]:
        raise UserError(f"--rows: {wrong[0]} is not allowed; the test split has rows 0 to {len(test) - 1}")
    return torch.from_numpy(test[chosen])


def _part(text: str, shape: Shape) -> Tensor:
    """A bool (H, W): where to draw."""
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
            raise UserError(f"--part: {text} is neither a file nor one of {', '.join(SIDES)}")
        (pixels,) = _pictures([Path(text)], shape._replace(channels=1), "--part")
        return pixels[0] > 127
    unknown = torch.zeros(height, width, dtype=torch.bool)
    unknown[boxes[text]] = True
    return unknown


def _save(rows: Iterable[Tensor], path: Path) -> None:
    shown = torch.stack(list(rows))
    grids.save_grid(to_images(shown.flatten(0, 1)), path, columns=shown.shape[1])
