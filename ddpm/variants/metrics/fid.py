"""The Fréchet distance between Gaussians fitted to both sets of features. Heusel et al. 2017 (arXiv:1706.08500)."""

import numpy as np

from ddpm.scoring.evaluate_params import Evaluate
from ddpm.scoring.metric import Features, Metric, RealFeatures, Score

SEES = ("dropped", "doubled", "blur", "noise")


class Frechet(Metric):
    """Called FID in Inception's features alone, and FD elsewhere. ddpm/scoring/frechet.py estimates its limit for many
    images. The values are torch-fidelity's."""

    scores = (
        Score("fid", "lower", 0.05, "FID", sees=SEES),
        Score("fd", "lower", 0.02, "FD", sees=SEES),
        Score("fid_infinity", "lower", None, "FID at infinity", of="fid", sees=SEES),
        Score("fd_infinity", "lower", None, "FD at infinity", of="fd", sees=SEES),
    )
    biased = True

    def least(self, evaluate: Evaluate, dimensions: int) -> tuple[int, str]:
        return dimensions + 1, f"more than the {dimensions} features, or their covariance is singular"

    def measure(self, fake: Features, real: RealFeatures, evaluate: Evaluate) -> dict[str, float]:
        from ddpm.scoring import frechet

        mu, sigma = frechet.statistics(fake.features).values()
        apart = mu - real.mu
        root = np.sqrt(np.linalg.eigvals(sigma @ real.sigma).astype(np.complex128)).real.sum()
        distance = apart @ apart + np.trace(sigma) + np.trace(real.sigma) - 2 * root
        return {real.extractor.frechet: float(distance)}
