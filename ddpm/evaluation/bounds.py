"""The variational bound on a model's likelihood, on images of both splits, with its terms."""

import math
from functools import partial
from pathlib import Path
from typing import NamedTuple

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
    if not options.images or "denoiser" not in diffusion.loss.learns:
        return {}
    denoiser = Denoiser(job.model.network, diffusion, job.device, torch.float32, clip=True)
    bound = partial(likelihood.bound, denoiser, denoiser.chain.schedule, diffusion.variance)
    return {split: bound(likelihood_job(job, split), options.timesteps) for split in SPLITS}


def likelihood_job(job: Job, split: Split) -> LikelihoodJob:
    """The split's images for the likelihood, and how it is computed."""
    (images, labels), config = open_split(job.processed, split), job.model.config
    rows = choose_rows(len(images), job.evaluate.likelihood.images)
    known = torch.from_numpy(labels[rows]).to(job.device) if config.model.classes else None
    ranks = job.ranks if len(rows) >= job.ranks.size else ALONE
    return LikelihoodJob(images[rows], job.evaluate.batch_size, job.device, config.seed, ranks, known)


def choose_rows(images: int, count: int) -> NDArray[np.int64]:
    """At most ``count`` of so many images, in order. More of them include fewer."""
    return np.sort(np.random.default_rng(SEED).permutation(images)[:count])


def bits_per_dim(bounds: dict[Split, Bound]) -> dict[str, float]:
    """``bits_per_dim`` of the test split and ``bits_per_dim_train``, each with its standard error over the images."""
    names: dict[Split, str] = {"test": "bits_per_dim", "train": "bits_per_dim_train"}
    scores = dict[str, float]()
    for split, bound in bounds.items():
        name, values = names[split], bound.bits_per_dim
        error = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else 0.0
        scores |= {name: float(values.mean()), f"{name}_se": error}
    return scores


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
