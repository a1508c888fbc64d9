"""The inception score: how sure the extractor's classes are, and how many. Salimans et al. 2016 (arXiv:1606.03498)."""

from ddpm.scoring.evaluate_params import Evaluate
from ddpm.scoring.metric import ISC_SPLITS, RNG_SEED, FeatureMetric, Features, RealFeatures, Score


class InceptionScore(FeatureMetric):
    """It needs no real images, and so cannot notice that samples differ from them. It depends on the images' order,
    because the splits are drawn by row. By torch-fidelity."""

    scores = (Score("is_mean", "higher", 0.05, "inception score", sees=("dropped", "noise")),)
    compares = False
    needs_logits = True

    def least(self, evaluate: Evaluate, dimensions: int) -> tuple[int, str]:
        return 10 * ISC_SPLITS, f"10 for each of its {ISC_SPLITS} splits"

    def measure(self, fake: Features, real: RealFeatures, evaluate: Evaluate) -> dict[str, float]:
        from torch_fidelity import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD
        from torch_fidelity.metric_isc import isc_features_to_metric

        scores = isc_features_to_metric(fake.logits, splits=ISC_SPLITS, shuffle=True, rng_seed=RNG_SEED)
        return {"is_mean": scores[KEY_METRIC_ISC_MEAN], "is_std": scores[KEY_METRIC_ISC_STD]}
