"""The commands of ``ddpm use``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

from cyclopts import App, Parameter

from ddpm.base.errors import UserError, plural
from ddpm.cli.app import MODELS, Classes, Picture, app
from ddpm.use.request import Request

Given: TypeAlias = Annotated[Request, Parameter("*")]
GIVEN = Request()
use = App(name="use", help="Change given images with the model.", group=MODELS)
app.command(use)


@use.command
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
      ddpm use inpaint --rows 0 1 --class 3 5 --part left  # draw the left halves anew

    Args:
        part: left, right, top, bottom, centre, or a picture whose white pixels are drawn
        rounds: number of times that each step is taken
        classes: numbers or names, cycled over the images; by default none
    """
    from ddpm.base.sections import Shape
    from ddpm.use import edits, reading

    generator, images = reading.open_request(given, "ancestral", True, classes)
    if rounds < 1:
        raise UserError(f"--rounds: {rounds} is not allowed; at least 1")
    unknown = reading.read_part(part, Shape(*images.shape[1:])).to(images.device)
    drawn = edits.inpaint(generator, images, unknown, given.seed, rounds)
    reading.save([images, images.masked_fill(unknown, 0), drawn], out)
    print(f"{out}: rows of the images, of the parts that are kept, and of the results")


@use.command
def vary(
    *,
    given: Given = GIVEN,
    out: Picture = Path("vary.png"),
    strengths: tuple[float, ...] = (0.25, 0.5, 0.75),
    classes: Classes = (),
) -> None:
    """Draw images like the given ones (SDEdit).

    examples:
      ddpm use vary --images cat.jpg --class cat --strengths 0.3 0.6  # a little, and more

    Args:
        strengths: amounts of noise, above 0 and up to 1, a row for each
        classes: numbers or names, cycled over the images; by default none
    """
    from ddpm.use import edits, reading

    generator, images = reading.open_request(given, "ancestral", True, classes)
    for strength in strengths:
        if not 0 < strength <= 1:
            raise UserError(f"--strengths: {strength} is not allowed; above 0 and up to 1")
    varied = [edits.vary(generator, images, strength, given.seed) for strength in strengths]
    reading.save([images, *varied], out)
    print(f"{out}: a row of the images, and one for each strength")


@use.command
def interpolate(
    *, given: Given = GIVEN, out: Picture = Path("interpolate.png"), count: int = 9, classes: Classes = ()
) -> None:
    """Draw a row from each image to the next.

    examples:
      ddpm use interpolate --rows 0 1 --class 3 5

    Args:
        count: number of images in a row, with the two given ones
        classes: of the given images, numbers or names, cycled over them; by default none
    """
    from ddpm.use import edits, reading

    generator, images = reading.open_request(given, "ddim", False, classes)
    if len(images) < 2 or count < 2:
        raise UserError(f"interpolate: {plural(len(images), 'image')}, --count: {count}; at least 2 of each are needed")
    reading.save(edits.interpolate(generator, images, count), out)
    print(f"{out}: a row from each image to the next")


@use.command
def invert(*, given: Given = GIVEN, out: Picture = Path("invert.png"), classes: Classes = ()) -> None:
    """Find the noise from which the model draws each image, and draw it again.

    examples:
      ddpm use invert --rows 0 1 --class 3 5

    Args:
        classes: of the given images, numbers or names, cycled over them; by default none
    """
    from ddpm.use import edits, reading

    generator, images = reading.open_request(given, "ddim", False, classes)
    noise = edits.invert(generator, images)
    back = edits.decode(generator, noise)
    reading.save([images, noise / 3, back], out)
    worst = float((back.clamp(-1, 1) - images).abs().max()) * 127.5
    print(f"{out}: rows of the images, their noise, and the images from that noise; largest error {worst:.1f} of 255")
