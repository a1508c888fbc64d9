"""Images from a trained model: image i depends only on (model, sampler, seed, i)."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ddpm.base import progress
from ddpm.base.errors import UserError
from ddpm.base.files import atomic_path
from ddpm.base.images import Images
from ddpm.base.sections import Shape
from ddpm.compute import devices, noise
from ddpm.compute.distributed import ALONE, Ranks
from ddpm.diffusion.chain import Chain, from_images, to_images
from ddpm.diffusion.coefficients import q_sample
from ddpm.model import precision
from ddpm.model.model_file import Loaded
from ddpm.pictures import grids
from ddpm.sampling import guidance, samples, spacing
from ddpm.sampling.classes import Classes
from ddpm.sampling.denoiser import Denoiser
from ddpm.sampling.sample_params import Sample, Spacing
from ddpm.sampling.sampler import Denoise, Noise, Sampler

Film = list[Tensor]
FILM_IMAGES = 64
FILM_FRAMES = 20
FORWARD = (0, 10, 50, 100, 150, 200, 250, 300, 400, 600, 800, 999)  # timesteps of the forward picture, in thousandths


@dataclass(eq=False)
class Generator:
    """A denoiser, and a sampler that visits ``steps`` steps of its chain. shape: of the images; classes: theirs, None
    for no class."""

    denoiser: Denoiser
    sampler: Sampler
    steps: int
    spaced: Spacing
    shape: Shape
    classes: Classes | None = None

    def __post_init__(self) -> None:
        schedule = self.denoiser.chain.schedule
        visited = spacing.timesteps(schedule, self.steps, self.spaced)
        self.chain = Chain(schedule.respace(visited), self.denoiser.device)

    @classmethod
    def of(cls, model: Loaded, options: Sample, device: torch.device, mean: Tensor | None = None) -> Generator:
        """The generator for ``options``. Raises UserError when the model's chain is shorter than ``options.steps``, or
        the model does not have their classes or guidance, or is not what their sampler needs. mean: the mean train
        image, (C, H, W) in [-1, 1], for ``options.contrast``."""
        diffusion = model.config.diffusion
        if options.steps > diffusion.T:
            raise UserError(f"steps: {options.steps} must be at most the model's T = {diffusion.T}")
        if reason := options.sampler.refusal(diffusion.loss, options.guidance.weight):
            raise UserError(reason)
        known = model.config.model.classes
        if reason := options.guidance.impossible(known, model.label_dropout):
            raise UserError(reason)
        if options.contrast and mean is None:
            raise UserError(f"sample.contrast: {options.contrast:g} needs the train images; allowed without them: 0")
        dtype = precision.choose(options.precision, model.config, device)
        on = devices.is_on(options.compile, devices.compiles(device))
        denoiser = Denoiser(model.network, diffusion, device, dtype, options.clip_denoised, options.guidance, known, on)
        denoiser.contrast, denoiser.mean = options.contrast, mean
        classes = Classes.of(model, options.classes)
        return cls(denoiser, options.sampler, options.steps, options.spacing, model.image_shape, classes)

    def trajectory(self, indices: Sequence[int], seed: int) -> Iterator[Tensor]:
        """Yield x_T, then x after each step, (B, C, H, W) float32, for the images ``indices``."""
        index = torch.tensor(indices, device=self.denoiser.device)
        x_T = noise.gaussian(seed, "x_T", index, 0, self.shape)
        yield x_T
        yield from self.reverse(
            indices, x_T, self.chain, lambda t: noise.gaussian(seed, "reverse", index, t, self.shape)
        )

    def reverse(self, indices: Sequence[int], x: Tensor, chain: Chain, noise: Noise) -> Iterator[Tensor]:
        """Yield x after each step from the top of ``chain``, by the denoiser, given the classes of the images."""
        yield from self.sampler.steps(self.condition(indices), x, chain, noise, self.denoiser.diffusion.variance)

    def condition(self, indices: Sequence[int]) -> Denoise:
        """The denoiser, given the classes of the images ``indices``."""
        if not self.classes:
            return self.denoiser
        return partial(self.denoiser, labels=torch.from_numpy(self.classes(indices)).to(self.denoiser.device))

    def images(self, indices: Sequence[int], seed: int, film: Film | None = None) -> Tensor:
        """(B, C, H, W) uint8 on the CPU. Raises UserError when a pixel is not finite.

        film: gets at most FILM_FRAMES states of the first FILM_IMAGES images, evenly spaced, from noise to image.
        """
        steps = len(self.chain)
        shown = set(np.linspace(0, steps, min(FILM_FRAMES, steps + 1)).round().astype(int).tolist())
        for step, x in enumerate(self.trajectory(indices, seed)):
            last = x
            if film is not None and step in shown:
                film.append(to_images(x[:FILM_IMAGES]).cpu())
        if not last.isfinite().all():
            raise UserError(
                f"sample: images {indices[0]} to {indices[-1]} are not finite numbers: use sample.precision: float32, "
                "sample.clip_denoised: true or another sampler; if that does not help, the model is broken"
            )
        return to_images(last).cpu()

    def batches(
        self, count: int, batch_size: int, seed: int, ranks: Ranks = ALONE, film: Film | None = None
    ) -> Iterator[tuple[range, Tensor]]:
        """Yield images 0..count - 1 in batches of (indices, (B, C, H, W) uint8), with a progress bar.

        Each rank draws a batch at a time, the same batches as a single rank would, and every rank gets all images.
        film: gets states of a rank's first batch, as ``images`` says.
        """
        with progress.bar(count, "sample", "image", shown=ranks.main) as bar:
            for first in range(0, count, batch_size * ranks.size):
                indices = range(first, min(first + batch_size * ranks.size, count))
                shares = [indices[rank * batch_size : (rank + 1) * batch_size] for rank in range(ranks.size)]
                share = shares[ranks.rank]
                filmed = None if first else film
                none = torch.empty(0, *self.shape, dtype=torch.uint8)
                images = self.images(share, seed, filmed) if share else none
                yield indices, ranks.join(images, [len(share) for share in shares])
                bar.update(len(indices))


def write_samples(
    generator: Generator,
    options: Sample,
    seed: int,
    out: Path,
    ranks: Ranks = ALONE,
    title: str = "",
    films: bool = True,
) -> dict[str, float | str]:
    """Write to ``out`` a set of images for each of ``options.seeds``, and grid.png, with ``films`` also reverse.mp4 and
    reverse.gif, of the first set, of as many images as its first batch has, and at most FILM_IMAGES. With classes also
    labels.npy, the class of each image; then the grid has a labelled row for each class. title: of the grid otherwise.

    seed: of the model's training; the noise of the sets depends on it. Every rank draws, the main one writes. Returns
    the content of metrics/sample.json.
    """
    started = time.perf_counter()
    paths = samples.set_paths(out, options.seeds)
    film: Film = []
    for number, path in paths.items():
        filmed = None if film else film
        write_set(generator, options, samples.noise_seed(seed, number), path, ranks, filmed)
    seconds = time.perf_counter() - started
    if ranks.main:
        first = samples.read_samples(paths[options.seeds[0]])
        if generator.classes:
            labels = generator.classes(range(options.count))
            samples.write_labels(out, labels)
            rows = {generator.classes.name(label): row for label, row in grids.by_class(first, labels).items()}
            grids.save_rows(rows, out / "grid.png")
        else:
            grids.save_grid(first[:FILM_IMAGES], out / "grid.png", titles=[title] if title else [])
        if films:
            grids.save_films(film, out, "reverse")
    return {
        "count": options.count,
        "sets": len(paths),
        "evaluations_per_image": guidance.evaluations(options, generator.denoiser.diffusion),
        "precision": devices.precision_name(generator.denoiser.dtype),  # what ``auto`` came to
        "seconds": round(seconds, 2),
        "images_per_second": round(options.count * len(paths) / seconds, 2),
    }


def write_set(
    generator: Generator, options: Sample, seed: int, path: Path, ranks: Ranks = ALONE, film: Film | None = None
) -> None:
    """Write ``options.count`` images as a .npy of uint8 (N, C, H, W); row i is image i drawn with noise of ``seed``.
    film: as ``Generator.images`` says."""
    batches = generator.batches(options.count, options.batch_size, seed, ranks, film)
    if not ranks.main:
        deque(batches, maxlen=0)
        return
    with atomic_path(path) as temporary:
        drawn = np.lib.format.open_memmap(temporary, "w+", np.uint8, (options.count, *generator.shape))
        for indices, batch in batches:
            drawn[indices.start : indices.stop] = batch.numpy()
        drawn.flush()


def forward_picture(chain: Chain, pictures: Images, seed: int, path: Path, rows: int = 4) -> None:
    """Save a grid of real images, (N, C, H, W) uint8: each row shows x_0 and, at the steps ``FORWARD``, x_t."""
    x_0 = from_images(torch.from_numpy(pictures[:rows].copy())).to(chain.table.device)
    epsilon = noise.gaussian(seed, "forward", torch.arange(len(x_0), device=x_0.device), 0, x_0.shape[1:])
    steps = sorted({round(step * len(chain) / 1000) for step in FORWARD})
    states = [q_sample(x_0, epsilon, chain.at_step(step)) if step else x_0 for step in steps]
    images = to_images(torch.stack(states, dim=1).flatten(0, 1)).cpu()
    grids.save_grid(images, path, len(steps), [f"t = {step:,}" for step in steps])
