"""MIND: the sliced Wasserstein distance of features. Berthet et al. 2026 (arXiv:2605.06797)."""

import numpy as np
from numpy.typing import NDArray

from ddpm.base.sections import Positive
from ddpm.scoring.evaluate_params import Evaluate
from ddpm.scoring.metric import Features, Metric, RealFeatures, Score

SEED = 2020
AT_ONCE = 64  # projections


class Mind(Metric):
    """Along a random direction, the optimal transport between two sets matches their sorted values. This is the mean
    over ``projections`` directions of the squared distance that it moves them, times the number of features.

    That factor is ours: the distance of two isotropic Gaussians is then their Fréchet distance. Values in the paper's
    unit differ by a constant.
    """

    scores = (Score("mind", "lower", 0.01, "MIND", sees=("dropped", "doubled", "blur", "noise")),)
    biased = True
    projections: Positive = 1000

    def measure(self, fake: Features, real: RealFeatures, evaluate: Evaluate) -> dict[str, float]:
        import torch

        from ddpm.compute import noise

        share, of_fake, of_real = (torch.from_numpy(part) for part in coupling(len(fake.features), len(real.features)))
        dimensions, moved = fake.features.shape[1], 0.0
        for index in torch.arange(self.projections).split(AT_ONCE):
            directions = noise.gaussian(SEED, "projections", index, 0, (dimensions,))
            directions /= directions.norm(dim=1, keepdim=True)
            ours, theirs = ((directions @ features.T).sort().values for features in (fake.features, real.features))
            moved += float(((ours[:, of_fake] - theirs[:, of_real]).double().square() @ share).sum())
        return {"mind": dimensions * moved / self.projections}


def coupling(n: int, m: int) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """The optimal transport between n and m sorted values, each of equal weight: the shares that are moved, and from
    and to which place. Exact for any two numbers: by integers, up to n + m - 1 shares."""
    ends = np.union1d(np.arange(1, n + 1) * m, np.arange(1, m + 1) * n)  # of the shares, in units of 1 / (n m)
    return np.diff(ends, prepend=0) / (n * m), (ends - 1) // m, (ends - 1) // n
