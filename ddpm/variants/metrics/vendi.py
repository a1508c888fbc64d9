"""The Vendi score: how many different images there are, in effect. Friedman and Dieng 2023 (arXiv:2210.02410)."""

from ddpm.scoring.evaluate_params import Evaluate
from ddpm.scoring.metric import Features, Metric, RealFeatures, Score

ROWS = 4096  # in float64 at once


class Vendi(Metric):
    """The exponential of the entropy of the eigenvalues of K / N, K the features' cosine similarities. 1: all images
    are alike. It needs no real images: noise is diverse, and blurred digits are nearly as diverse as sharp ones.

    K has the eigenvalues of the (D, D) matrix of the features' second moments and zeros, so N may be any number.
    """

    scores = (Score("vendi", "higher", 0.05, "Vendi score", sees=("dropped",)),)
    compares = False
    biased = True

    def measure(self, fake: Features, real: RealFeatures, evaluate: Evaluate) -> dict[str, float]:
        import torch
        from torch.nn.functional import normalize

        parts = (normalize(part.double()) for part in fake.features.split(ROWS))
        moments = torch.stack([part.T @ part for part in parts]).sum(0) / len(fake.features)
        values = torch.linalg.eigvalsh(moments).clamp(min=0)
        return {"vendi": float((-torch.xlogy(values, values).sum()).exp())}
