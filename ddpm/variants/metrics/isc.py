"""The inception score: how sure the extractor's classes are, and how many. Salimans et al. 2016 (arXiv:1606.03498)."""

import numpy as np

from ddpm.scoring.evaluate_params import Evaluate
from ddpm.scoring.metric import ISC_SPLITS, RNG_SEED, Features, Metric, RealFeatures, Score


class InceptionScore(Metric):
    """It needs no real images, and so cannot notice that samples differ from them. It depends on the images' order,
    because the splits are drawn by row. Bit for bit torch-fidelity's."""

    scores = (Score("is_mean", "higher", 0.05, "inception score", sees=("dropped", "noise")),)
    compares = False
    needs_logits = True

    def least(self, evaluate: Evaluate, dimensions: int) -> tuple[int, str]:
        return 10 * ISC_SPLITS, f"10 for each of its {ISC_SPLITS} splits"

    def measure(self, fake: Features, real: RealFeatures, evaluate: Evaluate) -> dict[str, float]:
        count = len(fake.logits)
        logits = fake.logits[np.random.RandomState(RNG_SEED).permutation(count)].double()
        p, log_p, scores = logits.softmax(1), logits.log_softmax(1), []
        for split in range(ISC_SPLITS):
            rows = slice(split * count // ISC_SPLITS, (split + 1) * count // ISC_SPLITS)
            kl = p[rows] * (log_p[rows] - p[rows].mean(0, keepdim=True).log())
            scores.append(kl.sum(1).mean().exp().item())
        return {"is_mean": float(np.mean(scores)), "is_std": float(np.std(scores))}
