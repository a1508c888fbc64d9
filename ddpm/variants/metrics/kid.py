"""The kernel distance: MMD with a cubic kernel, unbiased, over subsets. Bińkowski et al. 2018 (arXiv:1801.01401)."""

import numpy as np
from numpy.typing import NDArray

from ddpm.scoring.evaluate_params import Evaluate
from ddpm.scoring.metric import RNG_SEED, Features, Metric, RealFeatures, Score


class KernelDistance(Metric):
    """``kid_std`` is the spread over the subsets, not a standard error of ``kid_mean``. Both depend on the images'
    order, because the subsets are drawn by row. Bit for bit torch-fidelity's."""

    scores = (Score("kid_mean", "lower", 0.0005, "KID", sees=("dropped", "doubled", "blur", "noise")),)

    def least(self, evaluate: Evaluate, dimensions: int) -> tuple[int, str]:
        return evaluate.kid_subset_size, "evaluate.kid_subset_size, which may be lowered"

    def measure(self, fake: Features, real: RealFeatures, evaluate: Evaluate) -> dict[str, float]:
        from ddpm.scoring import distances

        ours, theirs = (distances.part(one.features, distances.MOST).numpy() for one in (fake, real))
        generator, size, found = np.random.RandomState(RNG_SEED), evaluate.kid_subset_size, []
        for _ in range(evaluate.kid_subsets):
            x, y = (each[generator.choice(len(each), size, replace=False)] for each in (ours, theirs))
            within = sum((k.sum(1) - k.diagonal()).sum() for k in (kernel(x, x), kernel(y, y)))
            found.append(float(within / (size * (size - 1)) - 2 * kernel(x, y).sum(0).sum() / (size * size)))
        return {"kid_mean": float(np.mean(found)), "kid_std": float(np.std(found))}


def kernel(x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, M) of features (N, D) and (M, D)."""
    return (x @ y.T * (1 / x.shape[1]) + 1) ** 3
