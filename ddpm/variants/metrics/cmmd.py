"""CMMD: MMD with a Gaussian kernel, of features scaled to length 1. Jayasumana et al. 2024 (arXiv:2401.09603)."""

import math
from typing import Annotated

from pydantic import Field, PositiveFloat

from ddpm.base.tensor import Tensor
from ddpm.scoring.evaluate_params import Evaluate
from ddpm.scoring.metric import Features, Metric, RealFeatures, Score

SCALE = 1000  # the paper's, for numbers that are easy to read


class Cmmd(Metric):
    """The minimum-variance estimate, as in the authors' code: it is too large by about 1 / N. The paper measures CLIP's
    features.

    Its kernel is so much wider than the features, which are at most 2 apart, that it sees little but their mean: the
    value is about 10 times the squared distance of the means. sigma: the kernel's width. images: of each set, at most,
    because every pair is compared.
    """

    scores = (Score("cmmd", "lower", 0.01, "CMMD", sees=("dropped", "doubled", "blur", "noise")),)
    biased = True
    sigma: PositiveFloat = 10.0
    images: Annotated[int, Field(ge=100)] = 20_000

    def measure(self, fake: Features, real: RealFeatures, evaluate: Evaluate) -> dict[str, float]:
        from torch.nn.functional import normalize

        from ddpm.scoring import distances

        ours, theirs = (normalize(distances.part(one.features, self.images)) for one in (fake, real))
        return {"cmmd": SCALE * mmd(ours, theirs, self.sigma)}


def mmd(x: Tensor, y: Tensor, sigma: float) -> float:
    """The squared maximum mean discrepancy of (N, D) and (M, D), Gretton et al. 2012, equation 5.

    The kernel less 1 keeps the digits that differ where the kernel is wide; the ones cancel.
    """
    return _mean(x, x, sigma) + _mean(y, y, sigma) - 2 * _mean(x, y, sigma)


def _mean(x: Tensor, y: Tensor, sigma: float) -> float:
    """Of exp(-|x - y|^2 / (2 sigma^2)) - 1 over all pairs."""
    from ddpm.scoring import distances

    blocks = distances.squared(x, y)
    return math.fsum(float((block / (-2 * sigma**2)).expm1().double().sum()) for _, block in blocks) / len(x) / len(y)
