"""The smallest possible denoising error at each noise level, and how far above it a model is. After Xu et al. 2025
(arXiv:2506.13763).

If the data were the N train images and nothing else, the best denoiser would be known: E[x_0 | x_t] is their mean with
the weights softmax(-|x_t - signal x_i|^2 / (2 sigma^2)). Its error on train images, the ``optimum``, is the least that
any denoiser can have on them, and at low noise it is 0: this denoiser has memorised the images. So an excess of 0 is no
goal there. On held-out images the same denoiser is a very bad one at low noise. The two numbers enclose the goal, the
least error B that any denoiser has on new images of the same kind. In expectation over the choice of the train images,

    optimum on train images  <=  B  <=  optimum's error on held-out images,

on the left because a minimum over the sample is at most the sample's mean at the minimum over the distribution, on the
right because this denoiser is one of those that B is the least of. Where the two meet, at high noise, B is known.

Every error is the mean squared error of epsilon per dimension, which is that of x_0 times the SNR: one unit, whatever
the network predicts. Over a unit of log-SNR, an error of e costs e / 2 nats per dimension of the continuous bound
(Kingma et al. 2021, arXiv:2107.00630), so noise levels and models can be compared. As in ddpm/evaluation/likelihood.py,
of which the model's errors are, the model's x_0 is clamped to [-1, 1]; the optimum's is within it anyway.

The optimum is computed for the same images, t and noise as the model's error, so their difference has less noise than
either. Relative to the nearest train image n, the exponent of image i is, with r = signal / sigma and d the distances
from x_0,

    -r^2 (d_i^2 - d_n^2) / 2 + r epsilon . (x_i - x_n),

and the product is a normal number of standard deviation |x_i - x_n| <= d_i + d_n. What stays below -CUT even at
DEVIATIONS of them is left out: at low noise that is nearly everything. Distances and exponents are float64, the
products with the images float32: where r is large, what is not left out is settled by the distances.

Above MAX_IMAGES train images, or MAX_VALUES numbers in them, that many are drawn, and the train images that are asked
about are among them. Then both numbers are those of the smaller train set. On train images the optimum is lower than
that of all images, in expectation, and the inequalities above still hold: the interval is wider, and never wrong.

For a model with classes, an image's optimum is that of the train images of its class. Mirrored train images
(``train.horizontal_flip``) do not count as train images.
"""

import math
from functools import partial
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddpm.base.files import Rows
from ddpm.data.processed import Split, open_split
from ddpm.diffusion.chain import Chain
from ddpm.diffusion.diffusion_params import Diffusion
from ddpm.diffusion.schedule import NoiseSchedule
from ddpm.evaluation import bounds, likelihood
from ddpm.evaluation.bounds import Job
from ddpm.evaluation.likelihood import Array, Bound, LikelihoodJob

MAX_IMAGES = 50_000
MAX_VALUES = MAX_IMAGES * 3072  # as many as in CIFAR's images
CUT = 40.0  # a weight of e^-40
DEVIATIONS = 8.0
VALUES = 2**23  # numbers in memory at once, of images or of weights
BATCH = 64  # images whose optimum is found at once: with more of them, fewer train images can be left out


class Gallery(NamedTuple):
    """Train images, (N, D) uint8 on the device, of at most MAX_VALUES bytes; labels: (N,), if they matter."""

    images: Tensor
    labels: Tensor | None = None

    @classmethod
    def of(cls, images: NDArray[np.uint8], device: torch.device, labels: Tensor | None = None) -> Self:
        """images: (N, C, H, W)."""
        return cls(torch.from_numpy(images).to(device).flatten(1), labels)


def pixels(images: Tensor, dtype: torch.dtype) -> Tensor:
    """(N, D) uint8 to [-1, 1]."""
    return images.to(dtype).sub_(127.5).mul_(1 / 127.5)


def optima(bounds_by_split: dict[Split, Bound], job: Job) -> dict[Split, Array]:
    """By split, the optimum's error where ``bounds_by_split`` has the model's, (M, S)."""
    if not bounds_by_split:  # nothing is asked, so nothing is chosen of what may be many images
        return {}
    options, config = job.evaluate.likelihood, job.model.config
    images, labels = open_split(job.processed, "train")
    most = max(options.images, min(MAX_IMAGES, MAX_VALUES // math.prod(images.shape[1:])))
    rows = bounds.choose_rows(len(images), most)
    known = torch.from_numpy(labels[rows]).to(job.device) if config.model.classes else None
    schedule = config.diffusion.schedule.noise_schedule(config.diffusion.T)
    find = partial(errors, schedule, Gallery.of(images[rows], job.device, known))
    return {split: bounds.run_on_split(job, split, find, options.timesteps) for split in bounds_by_split}


def errors(schedule: NoiseSchedule, gallery: Gallery, job: LikelihoodJob, timesteps: int) -> Array:
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

    at_once = max(1, min(BATCH, VALUES // len(gallery.images)))
    return likelihood.map_images("smallest error", least, job._replace(batch_size=at_once))[0]


def squared_distances(queries: Tensor, gallery: Gallery, labels: Tensor | None) -> Tensor:
    """(B, N) float64 between the queries, (B, D) uint8, and the gallery's images; infinite for those of another
    class."""
    x_0 = pixels(queries, torch.float64)
    parts = []
    for block in gallery.images.split(_at_once(x_0)):
        images = pixels(block, x_0.dtype)
        parts.append(images.square().sum(1) - 2 * x_0 @ images.T)
    squares = (torch.cat(parts, dim=1) + x_0.square().sum(1, keepdim=True)).clamp(min=0)
    if labels is not None and gallery.labels is not None:
        other = labels[:, None] != gallery.labels
        squares[other & ~other.all(1, keepdim=True)] = torch.inf  # a class without train images has those of all
    return squares


def error(x_0: Tensor, epsilon: Tensor, ratio: Tensor, squares: Tensor, gallery: Gallery) -> Tensor:
    """The best denoiser's squared error of epsilon, per dimension, (B,). x_0, epsilon: (B, D) float32; ratio: (B, 1),
    signal / sigma, and squares: (B, N), both float64."""
    nearest = squares.min(1, keepdim=True).values
    # -r^2 (d^2 - n^2) / 2 + DEVIATIONS r (d + n) > -CUT, solved for d
    reach = DEVIATIONS + ((ratio * nearest.sqrt() + DEVIATIONS).square() + 2 * CUT).sqrt()
    close = (squares < (reach / ratio).square()).any(0).nonzero().squeeze(1)
    blocks = close.split(_at_once(x_0))
    near = squares[:, close]
    along = torch.cat([epsilon @ pixels(gallery.images[block], x_0.dtype).T for block in blocks], dim=1)
    exponents = (ratio * along - ratio.square() / 2 * (near - nearest)).masked_fill(near.isinf(), -torch.inf)
    weights = exponents.softmax(1).split([len(block) for block in blocks], dim=1)
    mean = torch.zeros_like(x_0)
    for weight, block in zip(weights, blocks, strict=True):
        mean += weight.float() @ pixels(gallery.images[block], x_0.dtype)
    return (ratio.square() * (x_0 - mean).square()).mean(1)


def _at_once(x_0: Tensor) -> int:
    """The number of images of that size to work on at a time."""
    return max(1, VALUES // x_0.shape[1])


def rows(by_split: dict[Split, Bound], optimum: dict[Split, Array], diffusion: Diffusion) -> Rows:
    """By t: t and ``steps`` as in ``bounds.likelihood_rows``, the mean log_snr of those steps, and for each split

    ``draws``, the number of images; ``error`` of the model, ``optimum`` and their difference ``excess``, means over the
    images, each with its standard error ``*_se``. A step without signal, where nothing can be learned, is left out.
    """
    if not by_split:
        return []
    log_snr = diffusion.schedule.noise_schedule(diffusion.T).log_snr
    table: Rows = []
    first = next(iter(by_split.values()))
    for place, (low, steps) in enumerate(zip(first.first, first.steps, strict=True)):
        visited = log_snr[low - 1 : low - 1 + steps]
        if not np.isfinite(visited).any():
            continue
        row: dict[str, float | str] = {"t": low + (steps - 1) / 2, "steps": int(steps)}
        row["log_snr"] = float(visited[np.isfinite(visited)].mean())
        for split, bound in by_split.items():
            error, best = bound.mse[:, place], optimum[split][:, place]
            row[f"draws_{split}"] = len(error)
            for name, values in {"error": error, "optimum": best, "excess": error - best}.items():
                summary = bounds.mean_and_se(name, values)
                row |= {f"{name}_{split}": summary[name], f"{name}_{split}_se": summary[f"{name}_se"]}
        table.append(row)
    return table
