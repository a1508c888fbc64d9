"""Given images changed by a trained model: inpainted, varied, interpolated, inverted to noise.

`python examples/edit_images.py inpaint --rows 0 1 --class 3 5 --part left` draws the left halves of two test images
again. docs/use.md shows the four commands.

Each edit is a short function of a ``Generator``. Images are (B, C, H, W) float32 in [-1, 1], as ``chain.from_images``
makes them; image i's noise depends only on the seed and i. The network is shown the generator's classes, if it has any.
"""

import argparse
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ddpm.base import variant
from ddpm.base.errors import UserError, exit_code, plural
from ddpm.base.paths import MODEL_FILE, PROCESSED
from ddpm.base.sections import Shape, parse
from ddpm.compute import devices, noise
from ddpm.data.pixels import BROKEN, explain, to_pixels
from ddpm.data.processed import open_split
from ddpm.diffusion.chain import Chain, from_images, to_images
from ddpm.diffusion.coefficients import q_sample
from ddpm.model.model_file import load_model
from ddpm.params import config, credit
from ddpm.pictures import grids
from ddpm.sampling.generator import Generator
from ddpm.sampling.sample_params import Sample
from ddpm.sampling.sampler import levels
from ddpm.sources.photos import FORMATS

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
INVERTIBLE = "ddim"  # the sampler of inversion, which must not clip
ROWS = 8  # of the test split, if no images are given
ROUNDS = 10  # RePaint's default number of resamplings
ITERATIONS = 8  # of the fixed point; the tests state what is left of the error


def inpaint(generator: Generator, images: Tensor, unknown: Tensor, seed: int, rounds: int = ROUNDS) -> Tensor:
    """``images`` with the ``unknown`` pixels, a bool (H, W), drawn by the model; the others stay as they are.

    RePaint, Lugmayr et al. 2022 (arXiv:2201.09865), Algorithm 1: after each step, the known pixels are replaced by
    noised ones of the image. Each step is taken ``rounds`` times, with a step of noise in between, so that the
    two parts come to agree. A multistep sampler starts over at each step.
    """
    chain, shape = generator.chain, images.shape[1:]
    index = torch.arange(len(images), device=images.device)
    x = noise.gaussian(seed, "x_T", index, 0, shape)
    for step in range(len(chain), 1, -1):
        below = _first(chain, step)
        beta = float(chain.schedule.beta[step - 1])
        for turn in range(rounds):
            x = next(_steps(generator, x, below, index, seed, f"inpaint/{turn}"))
            epsilon = noise.gaussian(seed, f"known/{turn}", index, step - 1, shape)
            x = torch.where(unknown, x, q_sample(images, epsilon, chain.at_step(step - 1)))
            if turn < rounds - 1:
                epsilon = noise.gaussian(seed, f"again/{turn}", index, step, shape)
                x = (1 - beta) ** 0.5 * x + beta**0.5 * epsilon
    x = next(_steps(generator, x, _first(chain, 1), index, seed, "inpaint"))
    return torch.where(unknown, x, images)


def vary(generator: Generator, images: Tensor, strength: float, seed: int) -> Tensor:
    """Images like the given ones: noised up to ``strength``, in (0, 1], of the chain, and denoised from there.

    SDEdit, Meng et al. 2021 (arXiv:2108.01073), Algorithm 1.
    """
    step = max(1, round(strength * len(generator.chain)))
    index = torch.arange(len(images), device=images.device)
    epsilon = noise.gaussian(seed, "vary", index, step, images.shape[1:])
    x = q_sample(images, epsilon, generator.chain.at_step(step))
    return _last(_steps(generator, x, _first(generator.chain, step), index, seed, "reverse"))


def invert(generator: Generator, images: Tensor, iterations: int = ITERATIONS) -> Tensor:
    """x_T from which deterministic DDIM sampling returns the images. Song et al. 2020 (arXiv:2010.02502), section 4.3.

    DDIM's step from x_t uses the network at x_t, which inversion does not know yet: a fixed-point iteration finds it
    (Pan et al. 2023, arXiv:2309.04907). From the network it takes epsilon near the image and x_0 near the noise:
    whichever depends less on the guess, if the data has unit variance. At zero terminal SNR epsilon is the guess
    itself. Each level costs ``iterations`` evaluations. The generator must not clip.
    """
    x, denoise = images, generator.condition(range(len(images)))
    rising = levels(generator.chain.schedule)[::-1]
    for here, there in pairwise(rising):
        guess = x
        for _ in range(iterations):
            x_0, epsilon, _ = denoise(guess, there.t)
            if here.sigma * there.sigma <= here.signal * there.signal:
                x_0 = (x - here.sigma * epsilon) / here.signal
            else:
                epsilon = (x - here.signal * x_0) / here.sigma
            guess = there.signal * x_0 + there.sigma * epsilon
        x = guess
    return x


def decode(generator: Generator, x_T: Tensor, classes_of: Sequence[int] | None = None) -> Tensor:
    """The images that the generator's deterministic sampler draws from x_T, by default image i of its i-th class."""
    indices = range(len(x_T)) if classes_of is None else classes_of
    return _last(generator.reverse(indices, x_T, generator.chain, lambda t: torch.zeros_like(x_T)))


def interpolate(generator: Generator, images: Tensor, count: int) -> Tensor:
    """(B - 1, count, C, H, W): from each image to the next, both included, along the sphere of their noise. What is
    drawn has the class of the nearer one.

    Song et al. 2020 (arXiv:2010.02502), section 5.3. The generator's sampler must be deterministic and must not clip.
    """
    ends = invert(generator, images)
    weights = np.linspace(0, 1, count).tolist()
    between = [slerp(ends[:-1], ends[1:], weight) for weight in weights]
    nearer = [first + (weight > 0.5) for weight in weights for first in range(len(images) - 1)]
    drawn = decode(generator, torch.cat(between), nearer)
    return drawn.unflatten(0, (count, len(images) - 1)).transpose(0, 1)


def slerp(first: Tensor, second: Tensor, weight: float) -> Tensor:
    """Spherical interpolation of each image's noise, from ``first`` at weight 0 to ``second`` at 1. Shoemake 1985.

    Points in between are about as long as noise is; on the straight line they would be shorter.
    """
    flat_first, flat_second = first.flatten(1), second.flatten(1)
    cosine = torch.cosine_similarity(flat_first, flat_second, dim=1).clamp(-1, 1)
    angle = torch.acos(cosine)[:, None]
    straight = angle.sin() < 1e-4  # parallel: the formula would divide by 0
    one = torch.where(straight, 1 - weight, torch.sin((1 - weight) * angle) / angle.sin())
    other = torch.where(straight, weight, torch.sin(weight * angle) / angle.sin())
    return (one * flat_first + other * flat_second).view_as(first)


def _first(chain: Chain, steps: int) -> Chain:
    """The chain's first ``steps`` steps: those between the image and a noise level."""
    return Chain(chain.schedule.respace(np.arange(1, steps + 1)), chain.table.device)


def _steps(generator: Generator, x: Tensor, chain: Chain, index: Tensor, seed: int, purpose: str) -> Iterator[Tensor]:
    """x after each step from the top of ``chain`` to the image."""
    return generator.reverse(range(len(x)), x, chain, lambda t: noise.gaussian(seed, purpose, index, t, x.shape[1:]))


def _last(states: Iterator[Tensor]) -> Tensor:
    return deque(states, maxlen=1).pop()


def open_model(given: argparse.Namespace) -> tuple[Generator, Tensor]:
    """The model's generator, of the given classes or of none, and the given images, (B, C, H, W) on its device.

    Raises UserError for a wrong option, or a model or image that cannot be read, or a model that needs classes.
    """
    if given.images and given.rows:
        raise UserError("--images and --rows: give one of them")
    sampler, clips = variant.build("samplers", {"name": given.sampler}, "sampler"), given.sampler != INVERTIBLE
    drawn = {"count": 1, "steps": given.steps, "sampler": sampler, "clip_denoised": clips}
    options = parse(drawn | ({"classes": given.classes} if given.classes else {}), "sample", Sample)
    device = devices.resolve(given.device)
    model = load_model(given.model / MODEL_FILE.name if given.model.is_dir() else given.model, device)
    shape, known = model.image_shape, model.config.model.classes
    if known and not given.classes and model.label_dropout == 0:
        raise UserError(
            "--class: missing, and train.label_dropout: 0 did not train the model without a class; give the images' "
            f"classes: 0..{known - 1} or their names"
        )
    images = read_pictures(given.images, shape, "--images") if given.images else read_rows(given.rows, shape)
    generator = Generator.of(model, options, device)
    if not given.classes:  # and not of all
        generator.classes = None
    return generator, from_images(torch.stack(list(images)).to(device))


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


def draw_inpainted(given: argparse.Namespace, generator: Generator, images: Tensor) -> list[Tensor]:
    """Rows of the images, of the kept parts, and of the results, (B, C, H, W) each. Raises UserError for no rounds."""
    if given.rounds < 1:
        raise UserError(f"--rounds: {given.rounds} is not allowed; at least 1")
    unknown = read_part(given.part, Shape(*images.shape[1:])).to(images.device)
    drawn = inpaint(generator, images, unknown, given.seed, given.rounds)
    return [images, images.masked_fill(unknown, 0), drawn]


def draw_varied(given: argparse.Namespace, generator: Generator, images: Tensor) -> list[Tensor]:
    """A row of the images, and one for each strength. Raises UserError for a strength outside (0, 1]."""
    if wrong := [strength for strength in given.strengths if not 0 < strength <= 1]:
        raise UserError(f"--strengths: {wrong[0]} is not allowed; above 0 and up to 1")
    return [images, *(vary(generator, images, strength, given.seed) for strength in given.strengths)]


def draw_between(given: argparse.Namespace, generator: Generator, images: Tensor) -> list[Tensor]:
    """A row from each image to the next. Raises UserError for a single image."""
    if min(len(images), given.count) < 2:
        raise UserError(f"interpolate: {plural(len(images), 'image')}, --count {given.count}; at least 2 are needed")
    return list(interpolate(generator, images, given.count))


def draw_inverted(_: argparse.Namespace, generator: Generator, images: Tensor) -> list[Tensor]:
    """Rows of the images, their noise, and the images from that noise."""
    x_T = invert(generator, images)
    back = decode(generator, x_T)
    print(f"largest error {float((back.clamp(-1, 1) - images).abs().max()) * 127.5:.1f} of 255")
    return [images, x_T / 3, back]


def parser() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--model", type=Path, default=MODEL_FILE, help="model file, or its folder")
    shared.add_argument("--images", type=Path, nargs="+", default=(), help="pictures, cropped to the model's shape")
    shared.add_argument("--rows", type=int, nargs="+", default=(), help=f"or rows of the test split (the first {ROWS})")
    shared.add_argument("--class", dest="classes", nargs="+", default=(), help="classes of the images, cycled (none)")
    shared.add_argument("--seed", type=int, default=0, help="seed of the noise")
    shared.add_argument("--steps", type=int, default=50, help="steps of the chain to visit")
    shared.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    shared.add_argument("--out", type=Path, help="picture to write (EDIT.png)")
    options = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    edits = options.add_subparsers(dest="edit", required=True)
    part = edits.add_parser("inpaint", parents=[shared], help="draw a part of each image, and keep the rest (RePaint)")
    whites = "left, right, top, bottom, centre, or a picture whose white pixels are drawn"
    part.add_argument("--part", default="centre", help=whites)
    part.add_argument("--rounds", type=int, default=ROUNDS, help="number of times that each step is taken")
    part.set_defaults(draw=draw_inpainted, sampler="ancestral")
    near = edits.add_parser("vary", parents=[shared], help="draw images like the given ones (SDEdit)")
    amounts = "amounts of noise, above 0 and up to 1, a row for each"
    near.add_argument("--strengths", type=float, nargs="+", default=(0.25, 0.5, 0.75), help=amounts)
    near.set_defaults(draw=draw_varied, sampler="ancestral")
    between = edits.add_parser("interpolate", parents=[shared], help="draw a row from each image to the next")
    between.add_argument("--count", type=int, default=9, help="images in a row, with the two given ones")
    between.set_defaults(draw=draw_between, sampler=INVERTIBLE)
    back = edits.add_parser("invert", parents=[shared], help="find the noise of each image, and draw it again")
    back.set_defaults(draw=draw_inverted, sampler=INVERTIBLE)
    return options


def main(arguments: list[str] | None = None) -> None:
    """Edit the images, and write a picture. Raises UserError."""
    given = parser().parse_args(arguments)
    out = given.out or Path(f"{given.edit}.png")
    if out.suffix.lower() not in SUFFIXES:
        raise UserError(f"--out: {out} does not end in a picture's suffix; allowed: {', '.join(SUFFIXES)}")
    generator, images = open_model(given)
    shown = torch.stack(given.draw(given, generator, images))
    grids.save_grid(to_images(shown.flatten(0, 1)).cpu(), out, columns=shown.shape[1])
    print(out)


if __name__ == "__main__":
    sys.exit(exit_code(main))
