"""The sliced Wasserstein distance of features. MIND, Berthet et al. 2026 (arXiv:2605.06797)."""

from ddpm.scoring.evaluate_params import Evaluate
from ddpm.scoring.metric import RNG_SEED, FeatureMetric, Features, RealFeatures, Score

DIRECTIONS = 1024
AT_ONCE = 64


class Monge(FeatureMetric):
    """The squared 2-Wasserstein distance along a direction, by sorting: the mean over 1,024 fixed directions, times the
    number of features, so that a shift of the mean counts as in the Fréchet distance. The paper's features are
    Inception's."""

    scores = (Score("mind", "lower", 0.02, "MIND", sees=("dropped", "doubled", "blur", "noise")),)

    def measure(self, fake: Features, real: RealFeatures, evaluate: Evaluate) -> dict[str, float]:
        import torch

        from ddpm.compute import noise

        sets = [one.features.double() for one in (fake, real)]
        (n, dimensions), m = sets[0].shape, len(sets[1])
        # quantiles where either empirical distribution steps, in units of 1 / (n m)
        ends = torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n]).unique()
        shares, rows = ends.diff(prepend=ends.new_zeros(1)).double() / (n * m), ((ends - 1) // m, (ends - 1) // n)
        total = 0.0
        for first in range(0, DIRECTIONS, AT_ONCE):
            numbers = torch.arange(first, min(first + AT_ONCE, DIRECTIONS))
            directions = noise.gaussian(RNG_SEED, "mind", numbers, 0, (dimensions,))
            directions = torch.nn.functional.normalize(directions.double()).T
            a, b = ((one @ directions).sort(dim=0).values[row] for one, row in zip(sets, rows, strict=True))
            total += float((shares @ (a - b).square()).sum())
        return {"mind": total / DIRECTIONS * dimensions}
