"""The kernel distance: MMD with a cubic kernel, unbiased, over subsets. Bińkowski et al. 2018 (arXiv:1801.01401)."""

from ddpm.scoring.evaluate_params import Evaluate
from ddpm.scoring.metric import RNG_SEED, FeatureMetric, Features, RealFeatures, Score


class KernelDistance(FeatureMetric):
    """``kid_std`` is the spread over the subsets, not a standard error of ``kid_mean``. Both depend on the images'
    order, because the subsets are drawn by row. By torch-fidelity."""

    scores = (Score("kid_mean", "lower", 0.0005, "KID", sees=("dropped", "doubled", "blur", "noise")),)

    def least(self, evaluate: Evaluate, dimensions: int) -> tuple[int, str]:
        return evaluate.kid_subset_size, "evaluate.kid_subset_size, which may be lowered"

    def measure(self, fake: Features, real: RealFeatures, evaluate: Evaluate) -> dict[str, float]:
        from torch_fidelity import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD
        from torch_fidelity.metric_kid import kid_features_to_metric

        from ddpm.scoring import distances

        scores = kid_features_to_metric(
            *(distances.part(one.features, distances.MOST) for one in (fake, real)),
            kid_subsets=evaluate.kid_subsets,
            kid_subset_size=evaluate.kid_subset_size,
            rng_seed=RNG_SEED,
            verbose=False,
        )
        return {"kid_mean": scores[KEY_METRIC_KID_MEAN], "kid_std": scores[KEY_METRIC_KID_STD]}
