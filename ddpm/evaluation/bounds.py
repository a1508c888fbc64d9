"""The variational bound on a model's likelihood, on images of both splits, with its terms."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from ddpm.base.files import Rows
from ddpm.compute.distributed import ALONE, Ranks
from ddpm.data.processed import SPLITS, Split, open_split
from ddpm.evaluation import likelihood
from ddpm.evaluation.likelihood import Bound, LikelihoodJob
from ddpm.model.model_file import Loaded
from ddpm.sampling.denoiser import Denoiser
from ddpm.scoring.evaluate_params import Evaluate

# chooses the images for the likelihood. The choice is the same for every model, like the test split: the images define
# the score and are not part of the estimate. bits_per_dim_se says how much other images would change it.
SEED = 2020

Result = TypeVar("Result")


class Job(NamedTuple):
    """A model, the folders of the processed images and of the reference, and the ranks that share the evaluation, each
    of which gets the whole."""

    model: Loaded
    processed: Path
    reference: Path
    evaluate: Evaluate
    device: torch.device
    ranks: Ranks = ALONE


def likelihoods(job: Job) -> dict[Split, Bound]:
    """The bound on ``evaluate.likelihood.images`` images of each split, in full float32; empty if that is 0, or
    the model is not a denoiser.

    The images are the same for every model; noise and t depend on the model's training seed. For a model with classes
    it is the bound on each image given its class.
    """
    diffusion, options = job.model.config.diffusion, job.evaluate.likelihood
    denoiser = Denoiser(job.model.network, diffusion, job.device, torch.float32, clip=True)
    bound = partial(likelihood.bound, denoiser, denoiser.chain.schedule, diffusion.variance)
    wanted = options.images and "denoiser" in diffusion.loss.learns
    return {split: run_on_split(job, split, bound, options.timesteps) for split in SPLITS if wanted}


def run_on_split(job: Job, split: Split, find: Callable[[LikelihoodJob, int], Result], steps: int) -> Result:
    """``find`` on the split's images for the likelihood at that many ``steps``, in full float32."""
    (images, labels), config = open_split(job.processed, split), job.model.config
    rows = choose_rows(len(images), job.evaluate.likelihood.images)
    known = torch.from_numpy(labels[rows]).to(job.device) if config.model.classes else None
    ranks = job.ranks if len(rows) >= job.ranks.size else ALONE
    asked = LikelihoodJob(images[rows], job.evaluate.batch_size, job.device, config.seed, ranks, known)
    return find(asked, steps)


def choose_rows(images: int, count: int) -> NDArray[np.int64]:
    """At most ``count`` of so many images, in order. More of them include fewer."""
    return np.sort(np.random.default_rng(SEED).permutation(images)[:count])


def bits_per_dim(bounds: dict[Split, Bound]) -> dict[str, float]:
    """``bits_per_dim`` of the test split and ``bits_per_dim_train``, each with its standard error over the images."""
    names: dict[Split, str] = {"test": "bits_per_dim", "train": "bits_per_dim_train"}
    columns = (mean_and_se(name, bounds[split].bits_per_dim) for split, name in names.items() if split in bounds)
    return {name: value for one in columns for name, value in one.items()}


def mean_and_se(name: str, values: NDArray[np.float64]) -> dict[str, float]:
    error = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else 0.0
    return {name: float(values.mean()), f"{name}_se": error}


def likelihood_rows(bounds: dict[Split, Bound]) -> Rows:
    """The bound by t: t, steps, and for each split ``vlb_*``, bits per dimension per step, and ``mse_*``, of epsilon.

    L_{t-1} is in the row of t, L_T in that of T + 1, where nothing is denoised. A row is a stratum of ``steps`` steps
    around t, so that the whole bound is the sum of steps times vlb.
    """
    rows: Rows = []
    for split, bound in bounds.items():
        columns = [bound.first + (bound.steps - 1) / 2, bound.steps, bound.terms.mean(0), bound.mse.mean(0)]
        last = (bound.first[-1] + bound.steps[-1], 1, bound.prior.mean(), "")
        for place, (t, steps, vlb, mse) in enumerate([*zip(*columns, strict=True), last]):
            if place == len(rows):
                rows.append({"t": t, "steps": steps})
            rows[place] |= {f"vlb_{split}": vlb, f"mse_{split}": mse}
    return rows
