"""Precision and recall: shares of each set within the other's nearest neighbours. Kynkäänniemi et al. 2019
(arXiv:1904.06991)."""

from __future__ import annotations

from ddpm.scoring.metric import Features, Metric, RealFeatures, Score
from ddpm.scoring.settings import Evaluate

ROWS = 1000  # of the distance matrix in memory at once: 50,000 images take 0.2 GB instead of 10


class PrecisionRecall(Metric):
    """``evaluate.prc_neighborhood`` neighbours. One outlier among the real images has a large neighbourhood, within
    which anything is precise. By torch-fidelity."""

    scores = (
        Score("precision", "higher", 0.01, is_share=True, sees=("blur", "noise")),
        Score("recall", "higher", 0.01, is_share=True, sees=("dropped",)),
    )
    biased = True

    def least(self, settings: Evaluate, dimensions: int) -> tuple[int, str]:
        neighbours = settings.prc_neighborhood + 1
        return 10 * neighbours, f"10 times the {neighbours} that evaluate.prc_neighborhood spans"

    def measure(self, fake: Features, real: RealFeatures, settings: Evaluate) -> dict[str, float]:
        from torch_fidelity import KEY_METRIC_PRECISION, KEY_METRIC_RECALL
        from torch_fidelity.metric_prc import prc_features_to_metric

        from ddpm.scoring import distances

        found = prc_features_to_metric(
            *(distances.part(one.features, distances.MOST) for one in (fake, real)),
            prc_neighborhood=settings.prc_neighborhood,
            prc_batch_size=ROWS,
            save_cpu_ram=True,
            verbose=False,
        )
        return {"precision": found[KEY_METRIC_PRECISION], "recall": found[KEY_METRIC_RECALL]}
