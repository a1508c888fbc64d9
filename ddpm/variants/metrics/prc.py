"""Precision and recall: shares of each set within the other's nearest neighbours. Kynkäänniemi et al. 2019
(arXiv:1904.06991)."""

from ddpm.scoring.evaluate_params import Evaluate
from ddpm.scoring.metric import FeatureMetric, Features, RealFeatures, Score


class PrecisionRecall(FeatureMetric):
    """``evaluate.prc_neighborhood`` neighbours. One outlier among the real images has a large neighbourhood, within
    which anything is precise. The values are torch-fidelity's, which compares all pairs of real images each time; here
    the reference stage has done that."""

    scores = (
        Score("precision", "higher", 0.01, is_share=True, sees=("blur", "noise")),
        Score("recall", "higher", 0.01, is_share=True, sees=("dropped",)),
    )

    def least(self, evaluate: Evaluate, dimensions: int) -> tuple[int, str]:
        neighbours = evaluate.prc_neighborhood + 1
        return 10 * neighbours, f"10 times the {neighbours} that evaluate.prc_neighborhood spans"

    def measure(self, fake: Features, real: RealFeatures, evaluate: Evaluate) -> dict[str, float]:
        import torch

        from ddpm.scoring import distances

        k, ours = evaluate.prc_neighborhood, distances.part(fake.features, distances.MOST).to(real.device)
        theirs = real.features.to(real.device)
        reach, theirs_reach = distances.neighbours(ours, k)[:, -1:], real.around[:, -1].to(real.device)
        precise, recalled = [], torch.zeros(len(theirs), dtype=torch.bool, device=real.device)
        for rows, squared in distances.square_distances(ours, theirs):
            precise.append((squared <= theirs_reach).any(1))
            recalled |= (squared <= reach[rows]).any(0)
        return {"precision": float(torch.cat(precise).float().mean()), "recall": float(recalled.float().mean())}
