"""The commands of ``ddpm use``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from cyclopts import App, Parameter
from torch import Tensor

from ddpm.base import variant
from ddpm.base.errors import UserError
from ddpm.base.paths import MODEL_FILE
from ddpm.base.settings import Shape, section
from ddpm.cli.app import ONE_OF, Classes, Device, Model, Picture, Steps
from ddpm.cli.terminal import picture_path
from ddpm.compute import devices
from ddpm.diffusion.chain import from_images, to_images
from ddpm.model.file import load_model
from ddpm.pictures import grids
from ddpm.sampling.generator import Generator
from ddpm.sampling.settings import Sample
from ddpm.use import edits, reading

app = App(name="use")


@Parameter("*")
@dataclass(frozen=True)
class Given:
    """The model and the images, which every command here takes."""

    model: Model = MODEL_FILE
    images: Annotated[tuple[Path, ...], Parameter(group=ONE_OF, help="pictures, cropped to the model's shape")] = ()
    rows: Annotated[tuple[int, ...], Parameter(group=ONE_OF, help=f"of the test split (the first {reading.ROWS})")] = ()
    seed: int = 0
    steps: Steps = 50
    device: Device = "auto"


GIVEN = Given()


@app.command
def inpaint(
    *,
    given: Given = GIVEN,
    out: Picture = Path("inpaint.png"),
    part: str = "centre",
    rounds: int = 10,
    classes: Classes = (),
) -> None:
    """Draw a part of each image, and keep the rest (RePaint).

    examples:
      ddpm use inpaint --rows 0 1 2 3 --part left  # the model draws the left half of four test images

    Args:
        part: left, right, top, bottom, centre, or a picture that is white where to draw
        rounds: how often each step is taken
        classes: numbers or names, for the images in turn (without a class)
    """
    generator, images = _opened(given, out, "ancestral", classes, clip=True)
    if rounds < 1:
        raise UserError(f"--rounds: {rounds} is not allowed; at least 1")
    unknown = reading.part(part, Shape(*images.shape[1:])).to(images.device)
    drawn = edits.inpaint(generator, images, unknown, given.seed, rounds)
    _save([images, images.masked_fill(unknown, 0), drawn], out)
    print(f"{out}: rows of the images, of the parts that are kept, and of the results")


@app.command
def vary(
    *,
    given: Given = GIVEN,
    out: Picture = Path("vary.png"),
    strengths: tuple[float, ...] = (0.25, 0.5, 0.75),
    classes: Classes = (),
) -> None:
    """Draw images like the given ones (SDEdit).

    examples:
      ddpm use vary --images cat.jpg --strengths 0.3 0.6  # your own photo, varied a little and more

    Args:
        strengths: how much noise to add, above 0 and up to 1: a row for each
        classes: numbers or names, for the images in turn (without a class)
    """
    generator, images = _opened(given, out, "ancestral", classes, clip=True)
    for strength in strengths:
        if not 0 < strength <= 1:
            raise UserError(f"--strengths: {strength} is not allowed; above 0 and up to 1")
    varied = [edits.vary(generator, images, strength, given.seed) for strength in strengths]
    _save([images, *varied], out)
    print(f"{out}: a row of the images, and one for each strength")


@app.command
def interpolate(*, given: Given = GIVEN, out: Picture = Path("interpolate.png"), count: int = 9) -> None:
    """Draw a row from each image to the next.

    examples:
      ddpm use interpolate --rows 0 1 2

    Args:
        count: images in a row, with the two given ones
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
    images = reading.pictures(given.images, shape, "--images") if given.images else reading.rows(given.rows, shape)
    generator = Generator.of(model, options, device)
    if not classes:  # and not of all
        generator.classes = None
    return generator, from_images(torch.stack(list(images)).to(device))


def _save(rows: Iterable[Tensor], path: Path) -> None:
    shown = torch.stack(list(rows))
    grids.save_grid(to_images(shown.flatten(0, 1)), path, columns=shown.shape[1])
