"""Which of two models' images are nearer to the real ones: the relative test of Bounliphone et al. 2016
(arXiv:1511.04581).

The images of two models show which of *them* is better. How much of that is due to their recipes, and how much to the
training seeds, they cannot show.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtr  # not stats, whose import takes a second
from torch import Tensor

from ddpm.base.errors import UserError
from ddpm.base.files import flatten
from ddpm.base.paths import FINGERPRINT, REFERENCE, SAMPLES
from ddpm.compare import measured
from ddpm.compare.revisions import Revision
from ddpm.compare.runs import Run
from ddpm.compare.verdict import ONE_SEED
from ddpm.scoring import distances
from ddpm.scoring.features import extract
from ddpm.scoring.reference import load_features, read_reference
from ddpm.scoring.settings import Evaluate

MOST = 10_000  # images of each kind, because every pair is compared
ALPHA = 0.05
ROWS = 2048  # of a kernel's matrix at once


class Relative(NamedTuple):
    """difference: of the squared MMD to the real images, second model minus first: above 0 if the first is nearer.
    error: its standard error over draws of all images. p: two-sided, of no difference."""

    difference: float
    error: float
    p: float


def relative_mmd(real: Tensor, first: Tensor, second: Tensor) -> Relative:
    """The unbiased estimate, with KID's cubic kernel, and its standard error by each image's first-order influence.

    real: (N, D), first: (M, D), second: (L, D). The three sets are taken to be independent; samples that share noise
    make the test conservative.
    """
    ours, theirs = (_means(one, real) for one in (first, second))
    difference = float(theirs.within.mean() - ours.within.mean() - 2 * (theirs.across.mean() - ours.across.mean()))
    # an image is in two places of each mean over pairs
    influences = (ours.within - ours.across, theirs.within - theirs.across, ours.of_real - theirs.of_real)
    error = 2 * math.sqrt(sum(float(each.var()) / len(each) for each in influences))
    p = 2 * float(ndtr(-abs(difference) / error)) if error else 1.0
    return Relative(difference, error, p)


class _Means(NamedTuple):
    """Of the kernel, float64. within: (M,) of each sample to the others; across: (M,) of each sample to all real
    images; of_real: (N,) of each real image to all samples."""

    within: Tensor
    across: Tensor
    of_real: Tensor


def _means(samples: Tensor, real: Tensor) -> _Means:
    within, across, of_real = [], [], torch.zeros(len(real), dtype=torch.float64)
    for block in samples.split(ROWS):
        own, other = _kernel(block, samples), _kernel(block, real)
        with_itself = (block.double().square().sum(1) / block.shape[1] + 1) ** 3
        within.append((own.sum(1) - with_itself) / (len(samples) - 1))
        across.append(other.mean(1))
        of_real += other.sum(0)
    return _Means(torch.cat(within), torch.cat(across), of_real / len(samples))


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    """(x . y / D + 1)^3 for all pairs, (B, D) and (M, D) to (B, M) float64."""
    return (x.double() @ y.double().T / x.shape[1] + 1) ** 3


def lines(before: Run, after: Run, settings: Evaluate, device: torch.device) -> list[str]:
    """What the images say about these two models, in the features of each extractor; or why they say nothing."""
    try:
        drawn = [_images(run) for run in (before, after)]
        found = []
        for name in read_reference(REFERENCE).resolved(settings).extractors:
            real = load_features(REFERENCE, name)
            each = (extract(real.network, images, settings.batch_size, device).features for images in drawn)
            found.append(said(before.name, after.name, name, relative_mmd(distances.part(real.features, MOST), *each)))
    except UserError as error:
        return [f"these two models' images are not compared: {error}"]
    return [*found, f"this is about these two models and never about two recipes, because {ONE_SEED}"]


def said(before: str, after: str, extractor: str, found: Relative) -> str:
    """In words."""
    nearer, other = (after, before) if found.difference < 0 else (before, after)
    numbers = f"KID {abs(found.difference):.3g} lower, standard error {found.error:.2g}, p {found.p:.2g}"
    if found.p < ALPHA:
        return f"in {extractor}'s features, {nearer}'s images are nearer to the real ones than {other}'s: {numbers}"
    return f"in {extractor}'s features, neither model's images are nearer to the real ones: {nearer}'s have {numbers}"


def _images(run: Run) -> NDArray[np.uint8]:
    """At most ``MOST`` of a run's first set of samples. Raises UserError unless it was scored by the reference here."""
    kept = Revision(run.name, run.source)
    images, index = kept.images(f"{SAMPLES}/samples.npy"), read_reference(REFERENCE)
    scored = flatten(measured.parse(kept.read(str(FINGERPRINT)).read()))
    if scored.get("comparable.images.sha256") != index.images or images.shape[1:] != index.shape:
        raise UserError(f"{run.name} was scored by other real images than {REFERENCE} has: `dvc repro reference`")
    return distances.part(torch.from_numpy(images), MOST).numpy()
