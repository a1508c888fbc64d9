"""The commands of ``ddpm use``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeAlias

import torch
from cyclopts import App, Parameter
from PIL import Image
from torch import Tensor

from ddpm.base import variant
from ddpm.base.errors import UserError
from ddpm.base.paths import MODEL_FILE, PROCESSED
from ddpm.base.settings import Shape, section
from ddpm.cli.app import ONE_OF, Device, Model, Picture, Steps
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

ROWS = 8  # of the test split, if no images are given
SIDES = ("left", "right", "top", "bottom", "centre")
app = App(name="use")


@Parameter("*")
@dataclass(frozen=True)
class Given:
    """The model and the images, which every command here takes."""

    model: Model = MODEL_FILE
    images: Annotated[tuple[Path, ...], Parameter(group=ONE_OF, help="pictures, cropped to the model's shape")] = ()
    rows: Annotated[tuple[int, ...], Parameter(group=ONE_OF, help=f"of the test split (the first {ROWS})")] = ()
    seed: int = 0
    steps: Steps = 50
    device: Device = "auto"


GIVEN = Given()
Classes: TypeAlias = Annotated[
    tuple[str, ...],
    Parameter("--class", help="draw of this class: numbers or names, for the images in turn (without a class)"),
]


@app.command
def inpaint(
    *,
    given: Given = GIVEN,
    out: Picture = Path("inpaint.png"),
    part: Annotated[str, Parameter(help=f"{', '.join(SIDES)}, or a picture that is white where to draw")] = "centre",
    rounds: Annotated[int, Parameter(help="how often each step is taken")] = 10,
    classes: Classes = (),
) -> None:
    """Draw a part of each image, and keep the rest (RePaint).

    examples:
      ddpm use inpaint --rows 0 1 2 3 --part left  # the model draws the left half of four test images
    """
    generator, images = _opened(given, out, "ancestral", classes, clip=True)
    if rounds < 1:
        raise UserError(f"--rounds: {rounds} is not allowed; at least 1")
    unknown = _part(part, Shape(*images.shape[1:])).to(images.device)
    drawn = edits.inpaint(generator, images, unknown, given.seed, rounds)
    _save([images, images.masked_fill(unknown, 0), drawn], out)
    print(f"{out}: rows of the images, of the parts that are kept, and of the results")


@app.command
def vary(
    *,
    given: Given = GIVEN,
    out: Picture = Path("vary.png"),
    strengths: Annotated[
        tuple[float, ...], Parameter(help="how much noise to add, above 0 and up to 1: a row for each")
    ] = (0.25, 0.5, 0.75),
    classes: Classes = (),
) -> None:
    """Draw images like the given ones (SDEdit).

    examples:
      ddpm use vary --images cat.jpg --strengths 0.3 0.6  # your own photo, varied a little and more
    """
    generator, images = _opened(given, out, "ancestral", classes, clip=True)
    for strength in strengths:
        if not 0 < strength <= 1:
            raise UserError(f"--strengths: {strength} is not allowed; above 0 and up to 1")
    varied = [edits.vary(generator, images, strength, given.seed) for strength in strengths]
    _save([images, *varied], out)
    print(f"{out}: a row of the images, and one for each strength")


@app.command
def interpolate(
    *,
    given: Given = GIVEN,
    out: Picture = Path("interpolate.png"),
    count: Annotated[int, Parameter(help="images in a row, with the two given ones")] = 9,
) -> None:
    """Draw a row from each image to the next.

    examples:
      ddpm use interpolate --rows 0 1 2
    """
    generator, images = _opened(given, out, "ddim", clip=False)
    if len(images) < 2 or count < 2:
        raise UserError(f"interpolate: {len(images)} images, --count: {count}; at least 2 of each are needed")
    _save(edits.interpolate(generator, images, count), out)
    print(f"{out}: a row from each image to the next")


@app.command
def invert(*, given: Given = GIVEN, out: Picture = Path("invert.png")) -> None:
    """Find the noise from which the model draws each image, and draw it again.

    examples:
      ddpm use invert
    """
    generator, images = _opened(given, out, "ddim", clip=False)
    noise = edits.invert(generator, images)
    back = edits.decode(generator, noise)
    _save([images, noise / 3, back], out)
    worst = float((back.clamp(-1, 1) - images).abs().max()) * 127.5
    print(f"{out}: rows of the images, their noise, and what it becomes; largest error {worst:.1f} of 255")


def _opened(
    given: Given, out: Path, sampler: str, classes: Sequence[str] = (), *, clip: bool
) -> tuple[Generator, Tensor]:
    """The model's generator, of ``classes`` or of none, and the given images, (B, C, H, W) float32 on its device."""
    picture_path(out)
    chosen = variant.build("samplers", {"name": sampler}, "sampler")
    drawn = {"count": 1, "steps": given.steps, "sampler": chosen, "clip_denoised": clip}
    options = section(Sample, drawn | ({"classes": tuple(classes)} if classes else {}))
    device = devices.resolve(given.device)
    model = load_model(given.model, device)
    shape = model.image_shape
    images = _pictures(given.images, shape, "--images") if given.images else _rows(given.rows, shape)
    generator = Generator.of(model, options, device)
    if not classes:  # and not of all
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


def _rows(rows: Sequence[int], shape: Shape) -> Iterable[Tensor]:
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
