"""A model's likelihood on images of both splits: the variational bound with its terms, and the one by the ODE."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from ddpm.base.files import Rows
from ddpm.compute.distributed import ALONE, Ranks
from ddpm.data.processed import SPLITS, Split, open_split
from ddpm.evaluation import likelihood, ode
from ddpm.evaluation.likelihood import Bound
from ddpm.model.file import Loaded
from ddpm.sampling.denoiser import Denoiser
from ddpm.scoring.settings import Evaluate

# chooses the images for the likelihood. The choice is the same for every model, like the test split: the images define
# the score and are not part of the estimate. bits_per_dim_se says how much other images would change it.
SEED = 2020

Images = NDArray[np.uint8]
Found = TypeVar("Found")


def likelihoods(
    model: Loaded, processed: Path, settings: Evaluate, device: torch.device, ranks: Ranks = ALONE
) -> dict[Split, Bound]:
    """The bound on ``settings.likelihood.images`` images of each split, in full float32; empty if that is 0.

    The images are the same for every model; noise and t depend on the model's training seed. For a model with classes
    it is the bound on each image given its class.
    """
    diffusion, options = model.config.diffusion, settings.likelihood
    denoiser = Denoiser(model.network, diffusion, device, torch.float32, clip=True)
    bounds: dict[Split, Bound] = {}
    bound = partial(likelihood.bound, denoiser, denoiser.chain.schedule, diffusion.variance)
    for split in SPLITS if options.images else ():
        bounds[split] = _found(bound, options.timesteps, split, model, processed, settings, device, ranks)
    return bounds


def _found(
    likelihood: Callable[..., Found],
    steps: int,
    split: Split,
    model: Loaded,
    processed: Path,
    settings: Evaluate,
    device: torch.device,
    ranks: Ranks,
) -> Found:
    """What ``likelihood`` finds on the split's images, in full float32."""
    images, labels = chosen_images(processed, split, settings.likelihood.images)
    with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        return likelihood(
            images,
            steps,
            settings.batch_size,
            device,
            model.config.seed,
            ranks if len(images) >= ranks.size else ALONE,
            torch.from_numpy(labels).to(device) if model.config.model.classes else None,
        )


def chosen_images(processed: Path, split: Split, count: int) -> tuple[Images, NDArray[np.int64]]:
    """At most ``count`` images of the split, and their labels."""
    images, labels = open_split(processed, split)
    rows = chosen(len(images), count)
    return images[rows], labels[rows]


def chosen(images: int, count: int) -> NDArray[np.int64]:
    """At most ``count`` of so many images, in order. More of them include fewer."""
    return np.sort(np.random.default_rng(SEED).permutation(images)[:count])


def ode_bits_per_dim(
    model: Loaded, processed: Path, settings: Evaluate, device: torch.device, ranks: Ranks = ALONE
) -> dict[str, float]:
    """``bits_per_dim_ode`` of the bound's test images by the probability-flow ODE, in full float32; empty if it is off.

    The network's x_0 is not clamped: where it were, it would have no derivative.
    """
    if not settings.likelihood.ode_steps:
        return {}
    denoiser = Denoiser(model.network, model.config.diffusion, device, torch.float32, clip=False)
    by_ode = partial(ode.bits_per_dim, denoiser.differentiable, denoiser.chain.schedule)
    each = _found(by_ode, settings.likelihood.ode_steps, "test", model, processed, settings, device, ranks)
    return mean_and_se("bits_per_dim_ode", each)


def bits_per_dim(bounds: dict[Split, Bound]) -> dict[str, float]:
    """``bits_per_dim`` of the test split and ``bits_per_dim_train``, each with its standard error over the images."""
    found: dict[str, float] = {}
    for split, name in (("test", "bits_per_dim"), ("train", "bits_per_dim_train")):
        if split in bounds:
            found |= mean_and_se(name, bounds[split].bits_per_dim)
    return found


def mean_and_se(name: str, each: NDArray[np.float64]) -> dict[str, float]:
    error = float(each.std(ddof=1) / math.sqrt(len(each))) if len(each) > 1 else 0.0
    return {name: float(each.mean()), f"{name}_se": error}


def likelihood_rows(bounds: dict[Split, Bound]) -> Rows:
    """The bound by t: t, steps, and for each split ``vlb_*``, bits per dimension per step, and ``mse_*``, of epsilon.

    L_{t-1} is in the row of t, L_T in that of T + 1, where nothing is denoised. A row is a stratum of ``steps`` steps
    around t, so that the whole bound is the sum of steps times vlb.
    """
    rows: Rows = []
    for split, found in bounds.items():
        columns = [found.first + (found.steps - 1) / 2, found.steps, found.terms.mean(0), found.mse.mean(0)]
        last = (found.first[-1] + found.steps[-1], 1, found.prior.mean(), "")
        for place, (t, steps, vlb, mse) in enumerate([*zip(*columns, strict=True), last]):
            if place == len(rows):
                rows.append({"t": t, "steps": steps})
            rows[place] |= {f"vlb_{split}": vlb, f"mse_{split}": mse}
    return rows
