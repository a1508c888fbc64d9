"""The inception score: how sure the extractor's classes are, and how many. Salimans et al. 2016 (arXiv:1606.03498)."""

import itertools

import numpy as np

from ddpm.scoring.evaluate_params import Evaluate
from ddpm.scoring.metric import ISC_SPLITS, RNG_SEED, Features, Metric, RealFeatures, Score


class InceptionScore(Metric):
    """It needs no real images, and so cannot notice that samples differ from them. It depends on the images' order,
    because the splits are drawn by row. The values are torch-fidelity's."""

    scores = (Score("is_mean", "higher", 0.05, "inception score", sees=("dropped", "noise")),)
    compares = False
    needs_logits = True
    biased = True

    def least(self, evaluate: Evaluate, dimensions: int) -> tuple[int, str]:
        return 10 * ISC_SPLITS, f"10 for each of its {ISC_SPLITS} splits"

    def measure(self, fake: Features, real: RealFeatures, evaluate: Evaluate) -> dict[str, float]:
        order = np.random.RandomState(RNG_SEED).permutation(len(fake.logits))
        logits = fake.logits[order].double()
        ends = [split * len(order) // ISC_SPLITS for split in range(ISC_SPLITS + 1)]
        scores = []
        for start, end in itertools.pairwise(ends):
            p, log_p = logits[start:end].softmax(1), logits[start:end].log_softmax(1)
            scores.append((p * (log_p - p.mean(0).log())).sum(1).mean().exp().item())
        return {"is_mean": float(np.mean(scores)), "is_std": float(np.std(scores))}
