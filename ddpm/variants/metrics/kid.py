"""The kernel distance: MMD with a cubic kernel, unbiased, over subsets. Bińkowski et al. 2018 (arXiv:1801.01401)."""

import numpy as np
from numpy.typing import NDArray

from ddpm.scoring.evaluate_params import Evaluate
from ddpm.scoring.metric import RNG_SEED, Features, Metric, RealFeatures, Score


class KernelDistance(Metric):
    """``kid_std`` is the spread over the subsets, not a standard error of ``kid_mean``. Both depend on the images'
    order, because the subsets are drawn by row. The values are torch-fidelity's."""

    scores = (Score("kid_mean", "lower", 0.0005, "KID", sees=("dropped", "doubled", "blur", "noise")),)
    biased = False

    def least(self, evaluate: Evaluate, dimensions: int) -> tuple[int, str]:
        return evaluate.kid_subset_size, "evaluate.kid_subset_size, which may be lowered"

    def measure(self, fake: Features, real: RealFeatures, evaluate: Evaluate) -> dict[str, float]:
        from ddpm.scoring import distances

        sets = [distances.part(one.features, distances.MOST).cpu().numpy() for one in (fake, real)]
        generator, size = np.random.RandomState(RNG_SEED), evaluate.kid_subset_size
        scores = [
            discrepancy(*(rows[generator.choice(len(rows), size, replace=False)] for rows in sets))
            for _ in range(evaluate.kid_subsets)
        ]
        return {"kid_mean": float(np.mean(scores)), "kid_std": float(np.std(scores))}


def discrepancy(x: NDArray[np.float32], y: NDArray[np.float32]) -> float:
    """The unbiased squared MMD of two sets of features, (N, D) each."""
    count, size = x.shape
    of_x, of_y, of_both = (((a @ b.T) * (1 / size) + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    within = sum((kernel.sum(1) - kernel.diagonal()).sum() for kernel in (of_x, of_y))
    return float(within / (count * (count - 1)) - 2 * of_both.sum(0).sum() / (count * count))
