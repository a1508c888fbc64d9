"""How far a model is from the smallest possible denoising error: converged, too small, or memorising?

`python examples/least_error.py` reads data/model and data/processed, prints a conclusion and writes least_error.png.
docs/convergence.md explains the lines. After Xu et al. 2025 (arXiv:2506.13763).

If the data were the N train images and nothing else, the best denoiser would be known: E[x_0 | x_t] is their mean with
the weights softmax(-|x_t - signal x_i|^2 / (2 sigma^2)). Its error on train images, the ``optimum``, is the least that
any denoiser can have on them, and at low noise it is 0: this denoiser has memorised the images. On held-out images the
same denoiser is a very bad one at low noise. The two numbers enclose the goal, the least error B that any denoiser has
on new images of the same kind. In expectation over the choice of the train images,

    optimum on train images  <=  B  <=  optimum's error on held-out images,

on the left because a minimum over the sample is at most the sample's mean at the minimum over the distribution, on the
right because this denoiser is one of those that B is the least of. Where the two meet, at high noise, B is known.

Every error is the mean squared error of epsilon per dimension, which is that of x_0 times the SNR: one unit, whatever
the network predicts. As in ddpm/evaluation/likelihood.py, of which the model's errors are, the model's x_0 is clamped
to [-1, 1]; the optimum's is within it anyway. Both are computed for the same images, t and noise, so their difference
has less noise than either.

For a model with classes, an image's optimum is that of the train images of its class. Mirrored train images
(``train.horizontal_flip``) do not count as train images.
"""

import argparse
import math
import sys
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import stdtrit
from torch import Tensor

from ddpm.base.errors import UserError, exit_code
from ddpm.base.paths import MODEL_FILE, PROCESSED
from ddpm.base.sections import parse
from ddpm.compute import devices
from ddpm.data.processed import Split, check_classes, open_split
from ddpm.diffusion.chain import Chain
from ddpm.diffusion.schedule import NoiseSchedule
from ddpm.evaluation import bounds, likelihood
from ddpm.evaluation.bounds import Job
from ddpm.evaluation.likelihood import Array, LikelihoodJob
from ddpm.model.model_file import load_model
from ddpm.pictures import plots
from ddpm.pictures.plots import Panel
from ddpm.scoring.evaluate_params import Evaluate

MAX_VALUES = 50_000 * 3072  # as many as in CIFAR's images
CUT = 40.0  # a weight of e^-40
DEVIATIONS = 8.0
BLOCK = 4096  # train images in float64 at once
BATCH = 64  # images whose optimum is found at once: with more of them, fewer train images can be left out
BANDS = 12
ALPHA = 0.05  # the chance that a sentence is said by mistake
ROUNDING = 1e-3  # share of an error: a network gets x_t in float32
TINY = 1e-12  # against a division by 0

Mask = NDArray[np.bool_]


class Gallery(NamedTuple):
    """Train images, (N, D) uint8 on the device, of about MAX_VALUES bytes at most; labels: (N,), if they matter."""

    images: Tensor
    labels: Tensor | None = None


class Errors(NamedTuple):
    """Squared errors of epsilon per dimension, (M, S) float64: of M images, in S strata of noise levels."""

    model: Array
    optimum: Array


class Levels(NamedTuple):
    """Errors on train and on held-out images, in strata of steps.

    first, steps: (S,) the lowest t of each stratum and its number of t. log_snr: (S,) its mean.
    """

    first: NDArray[np.int64]
    steps: NDArray[np.int64]
    log_snr: Array
    train: Errors
    held_out: Errors


def measure(job: Job) -> Levels:
    """The errors of the model and of the optimum on ``evaluate.likelihood.images`` images of each split.

    A step without signal, where nothing can be learned, is left out. Of train images with more than MAX_VALUES numbers,
    some are drawn, the ones asked about among them: the optimum on train images is then lower in expectation, and the
    inequalities above still hold. Raises UserError if the model is not a denoiser.
    """
    model_errors = bounds.likelihoods(job)
    if not model_errors:
        raise UserError("--model: does not denoise; its diffusion.loss learns something else")
    options, config = job.evaluate.likelihood, job.model.config
    images, labels = open_split(job.processed, "train")
    rows = bounds.choose_rows(len(images), max(options.images, MAX_VALUES // math.prod(images.shape[1:])))
    known = torch.from_numpy(labels[rows]).to(job.device) if config.model.classes else None
    schedule = config.diffusion.schedule.noise_schedule(config.diffusion.T)
    gallery = Gallery(torch.from_numpy(images[rows]).to(job.device).flatten(1), known)
    find = partial(least_errors, schedule, gallery)
    bound = model_errors["train"]
    snr = [schedule.log_snr[low - 1 : low - 1 + count] for low, count in zip(bound.first, bound.steps, strict=True)]
    kept = np.array([np.isfinite(part).any() for part in snr])
    mean = np.array([part[np.isfinite(part)].mean() for part, keep in zip(snr, kept, strict=True) if keep])

    def errors(split: Split) -> Errors:
        optimum = bounds.run_on_split(job, split, find, options.timesteps)
        return Errors(model_errors[split].mse[:, kept], optimum[:, kept])

    return Levels(bound.first[kept], bound.steps[kept], mean, errors("train"), errors("test"))


def least_errors(schedule: NoiseSchedule, gallery: Gallery, job: LikelihoodJob, timesteps: int) -> Array:
    """(M, S): the squared error of epsilon, per dimension, of the best denoiser of the gallery, for the images at the t
    and the noise of ``likelihood.bound``. They have labels if the gallery has."""
    chain, labels = Chain(schedule, job.device, torch.float64), job.labels
    first, steps = likelihood.strata(len(schedule), timesteps)

    def least(index: Tensor, images: NDArray[np.uint8]) -> tuple[Tensor]:
        queries = torch.from_numpy(images).to(job.device).flatten(1)
        squares = squared_distances(queries, gallery, None if labels is None else labels[index])
        x_0 = pixels(queries, torch.float32)
        columns = []
        for low, count in zip(first.tolist(), steps.tolist(), strict=True):
            t, epsilon = likelihood.draw_stratum(job.seed, index, low, count, images.shape[1:])
            at = chain.at(t)
            ratio = (at.signal / at.sigma).flatten(1)
            columns.append(error(x_0, epsilon.flatten(1).float(), ratio, squares, gallery))
        return (torch.stack(columns, dim=1),)

    return likelihood.map_images("smallest error", least, job._replace(batch_size=BATCH))[0]


def pixels(images: Tensor, dtype: torch.dtype) -> Tensor:
    """(N, D) uint8 to [-1, 1]."""
    return images.to(dtype).sub_(127.5).mul_(1 / 127.5)


def squared_distances(queries: Tensor, gallery: Gallery, labels: Tensor | None) -> Tensor:
    """(B, N) float64 between the queries, (B, D) uint8, and the gallery's images; infinite for those of another
    class."""
    x_0, blocks = pixels(queries, torch.float64), gallery.images.split(BLOCK)
    squares = torch.cat([torch.cdist(x_0, pixels(block, x_0.dtype)).square() for block in blocks], dim=1)
    if labels is not None and gallery.labels is not None:
        other = labels[:, None] != gallery.labels
        squares[other & ~other.all(1, keepdim=True)] = torch.inf  # a class without train images has those of all
    return squares


def error(x_0: Tensor, epsilon: Tensor, ratio: Tensor, squares: Tensor, gallery: Gallery) -> Tensor:
    """The best denoiser's squared error of epsilon, per dimension, (B,). x_0, epsilon: (B, D) float32; ratio: (B, 1),
    signal / sigma, and squares: (B, N), both float64.

    Relative to the nearest train image n, the exponent of image i is, with r the ratio and d the distances from x_0,

        -r^2 (d_i^2 - d_n^2) / 2 + r epsilon . (x_i - x_n),

    and the product is a normal number of standard deviation |x_i - x_n| <= d_i + d_n. What stays below -CUT even at
    DEVIATIONS of them is left out: at low noise that is nearly everything.
    """
    nearest = squares.min(1, keepdim=True).values
    # -r^2 (d^2 - n^2) / 2 + DEVIATIONS r (d + n) > -CUT, solved for d
    reach = DEVIATIONS + ((ratio * nearest.sqrt() + DEVIATIONS).square() + 2 * CUT).sqrt()
    close = (squares < (reach / ratio).square()).any(0)
    images, near = pixels(gallery.images[close], x_0.dtype), squares[:, close]
    # float32 will do: where r is large, what is not left out is settled by the distances
    exponents = ratio * (epsilon @ images.T) - ratio.square() / 2 * (near - nearest)
    mean = exponents.masked_fill(near.isinf(), -torch.inf).softmax(1).float() @ images
    return (ratio.square() * (x_0 - mean).square()).mean(1)


def diagnose(levels: Levels) -> list[str]:
    """Sentences about a model, the nearness to the optimum first. Each holds at all its noise levels together, with an
    error of ALPHA.

    The strata are first pooled to at most BANDS bands, equally wide in log-SNR, and each band's standard errors are
    those over the images. The optimum is known at the highest noise levels, at which train and held-out images have
    the same one. A model has converged if there neither of its errors is above the optimum by more than noise, nor
    both anywhere. It is limited where both are above, and memorises where its error is lower on train images.
    """
    edges = np.linspace(levels.log_snr.max(), levels.log_snr.min(), BANDS + 1)[1:-1]
    _, band = np.unique(np.searchsorted(-edges, -levels.log_snr), return_inverse=True)
    share = np.equal.outer(band, np.unique(band)) * levels.steps[:, None].astype(float)  # (S, K)
    steps = share.sum(0)
    ends = [np.flatnonzero(column)[[0, -1]] for column in share.T]
    spans = np.array([(levels.first[a], levels.first[b] + levels.steps[b] - 1) for a, b in ends], float)

    sides = [Errors(*(side @ (share / steps) for side in errors)) for errors in (levels.train, levels.held_out)]
    error, error_se = _mean_and_se([side.model for side in sides])  # (2, K) each
    optimum, optimum_se = _mean_and_se([side.optimum for side in sides])
    excess, excess_se = _mean_and_se([side.model - side.optimum for side in sides])
    freedom = min(len(side.model) for side in sides) - 1
    near, far = (float(stdtrit(freedom, 1 - ALPHA / count)) for count in (1, len(steps)))  # standard errors

    apart = optimum[1] - optimum[0] > far * np.hypot(*optimum_se)
    known = ~np.logical_or.accumulate(apart[::-1])[::-1]
    limited = np.all(excess > np.maximum(far * excess_se, ROUNDING * error), axis=0)
    gap = error[1] - error[0]
    memorising = gap > far * np.hypot(*error_se)

    def place(where: Mask) -> str:
        return f"t = {spans[where].min():.0f} to {spans[where].max():.0f}"

    def most(values: Array, whole: Array, where: Mask) -> float:
        return float((values / np.maximum(whole, TINY))[where].max())

    said, converged = ["these train images do not show whether it has converged"], False
    # over the known levels, in units of the optimum's sum; a level counts for each of its steps
    best, shares, noise = (part[:, known] @ steps[known] for part in (optimum, excess, excess_se))
    if best.min() > 0:
        shares, noise = shares / best, noise / best
        within = max(0.0, float((shares + near * noise).max()))
        converged = bool((shares <= np.maximum(near * noise, ROUNDING)).all() and not limited.any())
        reached = f"within {within:.1%} of" if within <= 1 else f"up to {1 + within:.2g} times"
        if converged and within <= 1:
            reached = f"converged {reached}"
        said = [f"{reached} the smallest possible error at {place(known)}"]
    if limited.any():
        above = most(excess[1], optimum[1], limited)
        said.append(f"limited by capacity or training at {place(limited)}: up to {above:.1%} above the optimum")
    elif converged:
        said.append("no sign that a larger network or a longer training would do better")
    if not memorising.any():
        return [*said, "no sign of memorising"]
    lower = most(gap, error[1], memorising)
    return [*said, f"memorising at {place(memorising)}: its error is up to {lower:.1%} lower on train images"]


def _mean_and_se(values: list[Array]) -> tuple[Array, Array]:
    """Means over the images, and their standard errors, (2, K) each."""
    errors = [side.std(0, ddof=1) / math.sqrt(len(side)) for side in values]
    return np.array([side.mean(0) for side in values]), np.array(errors)


def draw(levels: Levels, path: Path) -> None:
    """Plot the model's error minus the optimum's, with two standard errors, as a share of the error."""
    curves, optimum = {}, levels.held_out.optimum.mean(0)
    # at less noise the optimum is so far off on held-out images that it would hide all else
    near = optimum < 1.5 * levels.held_out.model.mean(0)
    for name, errors in {"train": levels.train, "held-out": levels.held_out}.items():
        share = 100 / np.maximum(errors.model.mean(0), TINY)
        ((excess,), (se,)) = _mean_and_se([errors.model - errors.optimum])
        curve = [levels.log_snr, share * excess, share * (excess - 2 * se), share * (excess + 2 * se)]
        curves[name] = np.stack(curve, 1)[near]
    axes = "log-SNR (less noise to the right)", "% of the model's error"
    plots.lines(path, [Panel("excess over the optimum", *axes, curves, {"optimum": 0.0})])


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    options.add_argument("--model", type=Path, default=MODEL_FILE, help="model file")
    options.add_argument("--processed", type=Path, default=PROCESSED, help="folder of the images it was trained on")
    options.add_argument("--images", type=int, default=512, help="number of images of each split to measure on")
    options.add_argument("--timesteps", type=int, default=50, help="number of noise levels")
    options.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    options.add_argument("--out", type=Path, default=Path("least_error.png"), help="picture to write")
    return options


def main(arguments: list[str] | None = None) -> None:
    """Print the diagnosis of a model file, and draw its errors. Raises UserError."""
    given = parser().parse_args(arguments)
    if given.images < 2:
        raise UserError(f"--images: {given.images} is not allowed; at least 2")
    device = devices.resolve(given.device)
    wanted = {"images": given.images, "timesteps": given.timesteps}
    # the likelihood alone is computed, and no extractor
    asked = parse({"extractors": ["classifier"], "likelihood": wanted}, "evaluate", Evaluate)
    model = load_model(given.model, device)
    images, _ = open_split(given.processed, "train")
    if images.shape[1:] != model.image_shape:
        raise UserError(f"--processed: images of {images.shape[1:]}; the model's are {tuple(model.image_shape)}")
    if model.config.model.classes:
        check_classes(given.processed, model.config.model.classes)
    levels = measure(Job(model, given.processed, Path(), asked, device))
    print(*diagnose(levels), sep="\n")
    draw(levels, given.out)
    print(f"{given.out}: the error above the optimum, by noise level")


if __name__ == "__main__":
    sys.exit(exit_code(main))
