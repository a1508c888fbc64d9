"""Clipped density and coverage: the shares of good samples, and of the data that samples cover. Salvy et al. 2025
(arXiv:2507.01761)."""

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ddpm.base.sections import Positive
from ddpm.scoring.evaluate_params import Evaluate
from ddpm.scoring.metric import Features, Metric, RealFeatures, Score

PER_NEIGHBOUR = 10


class DensityCoverage(Metric):
    """Around each real image is a ball that reaches its ``neighbours``-th nearest real image.

    ``density``, the mean number of balls around a sample over ``neighbours``, and ``coverage``, the share of balls that
    hold a sample, are those of Naeem et al. 2020 (arXiv:2002.09797). They are recorded and not judged, because an
    outlier's large ball is full of bad samples, and because real images get neither 1 nor anything known.

    Clipped density limits a ball to the median radius and a sample to 1, and is divided by the same of the real images.
    Clipped coverage counts up to ``neighbours`` samples in a ball, and is the share m / N of samples drawn as the data
    are that would be expected to cover as much, with all others far away. A share of bad samples lowers both by just
    that share. images: of each set, at most, because every pair is compared.
    """

    scores = (
        Score("clipped_density", "higher", 0.01, "clipped density", is_share=True, sees=("blur", "noise")),
        Score("clipped_coverage", "higher", 0.01, "clipped coverage", is_share=True, sees=("blur", "noise")),
    )
    neighbours: Positive = 5
    images: Annotated[int, Field(ge=100)] = 20_000

    def least(self, evaluate: Evaluate, dimensions: int) -> tuple[int, str]:
        least = PER_NEIGHBOUR * (self.neighbours + 1)
        return least, f"{PER_NEIGHBOUR} times the {self.neighbours + 1} images that reach a neighbour"

    def measure(self, fake: Features, real: RealFeatures, evaluate: Evaluate) -> dict[str, float]:
        import torch

        from ddpm.scoring import distances

        ours, theirs, k = *(distances.part(one.features, self.images) for one in (fake, real)), self.neighbours
        near, rows = distances.neighbours(theirs, k)
        radii = near[:, -1]
        clipped = radii.clamp(max=radii.median())
        covering, around, clipped_around = (torch.zeros(count) for count in (len(theirs), len(ours), len(ours)))
        for block, squared in distances.squared(ours, theirs):
            inside = squared < radii
            covering += inside.sum(0)
            around[block] = inside.sum(1).float()
            clipped_around[block] = (squared <= clipped).sum(1).float()
        of_real = rows[near <= clipped[:, None]].bincount(minlength=len(theirs)).float()
        density, best = ((counts / k).clamp(max=1).mean() for counts in (clipped_around, of_real))
        covered = float((covering / k).clamp(max=1).mean())
        return {
            "clipped_density": min(1.0, float(density / best)),
            "clipped_coverage": good(covered, k, len(theirs), len(ours)),
            "density": float((around / k).mean()),
            "coverage": float((covering > 0).float().mean()),
        }


def good(covered: float, k: int, n: int, m: int) -> float:
    """The share of m samples that, drawn as n real images are, would be expected to cover the share ``covered``."""
    return float(np.interp(covered, expected(k, n, m), np.arange(m + 1) / m))


def expected(k: int, n: int, m: int) -> NDArray[np.float64]:
    """The mean share of k that is in the ball around one of n real images, for 0 to m samples drawn as they are.

    The ball holds the share Beta(k, n - k) of the data, so the number of samples in it is beta-binomial, and what is
    above k does not count: 1 - sum over j < k of P(j) (k - j) / k.
    """
    from scipy.special import betaln, gammaln

    samples = np.arange(m + 1)
    missing = np.zeros(m + 1)
    for j in range(k):
        drawn = samples[j:]
        choose = gammaln(drawn + 1) - gammaln(j + 1) - gammaln(drawn - j + 1)
        missing[j:] += np.exp(choose + betaln(k + j, n - k + drawn - j) - betaln(k, n - k)) * (k - j) / k
    return 1 - missing
