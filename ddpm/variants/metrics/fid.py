"""The Fréchet distance between Gaussians fitted to both sets of features. Heusel et al. 2017 (arXiv:1706.08500)."""

import numpy as np

from ddpm.scoring.evaluate_params import Evaluate
from ddpm.scoring.metric import FeatureMetric, Features, RealFeatures, Score

SEES = ("dropped", "doubled", "blur", "noise")


class Frechet(FeatureMetric):
    """Called FID in Inception's features alone, and FD elsewhere. ddpm/scoring/frechet.py estimates its limit for many
    images. By torch-fidelity."""

    scores = (
        Score("fid", "lower", 0.05, "FID", sees=SEES),
        Score("fd", "lower", 0.02, "FD", sees=SEES),
        Score("fid_infinity", "lower", None, "FID at infinity", of="fid", sees=SEES),
        Score("fd_infinity", "lower", None, "FD at infinity", of="fd", sees=SEES),
    )

    def least(self, evaluate: Evaluate, dimensions: int) -> tuple[int, str]:
        return dimensions + 1, f"more than the {dimensions} features, or their covariance is singular"

    def measure(self, fake: Features, real: RealFeatures, evaluate: Evaluate) -> dict[str, float]:
        from torch_fidelity import KEY_METRIC_FID
        from torch_fidelity.metric_fid import fid_statistics_to_metric

        from ddpm.scoring import frechet

        of_fake = frechet.statistics(fake.features)
        precision = np.result_type(of_fake["mu"], real.mu)  # float64 if either set is large; they must agree
        scores = fid_statistics_to_metric(
            {"mu": of_fake["mu"].astype(precision), "sigma": of_fake["sigma"]},
            {"mu": real.mu.astype(precision), "sigma": real.sigma},
            verbose=False,
        )
        return {real.extractor.frechet: scores[KEY_METRIC_FID]}
