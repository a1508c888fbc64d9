"""FLD: how likely held-out images are among samples that are widened to fit the train images. Jiralerspong et al. 2023
(arXiv:2302.04440)."""

import math
from typing import Annotated

from pydantic import Field

from ddpm.base.sections import Positive
from ddpm.base.tensor import Tensor
from ddpm.scoring.evaluate_params import Evaluate
from ddpm.scoring.metric import Features, Metric, RealFeatures, Score

SEED = 2020
INSIDE = 0.9  # of the way from the train images' mean to one of them: the authors' remote component
MARGIN = 1e-3  # of the first squared widths
NARROWEST = math.exp(-40)  # variance: of a sample on top of a train image


class Fld(Metric):
    """Each sample is the centre of a Gaussian, whose width makes the train images most likely. A copy of a train image
    gets so narrow a one that no held-out image is likely under it: copies make this score worse.

    ``fld`` is 100 times the nats per feature by which held-out images are less likely so than among as many real
    images, a half of the train split that is fitted to the other: about 0 for real images. ``fld_gap``, the same of the
    train images less the held-out ones, is recorded and not judged: the further below 0, the more the model overfits.

    Features are scaled to the held-out images' mean and deviation. Widths are fitted by EM in ``rounds``, where the
    authors' code takes 50 steps of Adam. images: of each set, at most, because every pair is compared.
    """

    scores = (Score("fld", "lower", 0.5, "FLD", sees=("blur", "noise")),)
    biased = True
    rounds: Positive = 50
    images: Annotated[int, Field(ge=100)] = 5_000

    def measure(self, fake: Features, real: RealFeatures, evaluate: Evaluate) -> dict[str, float]:
        import torch

        from ddpm.compute import noise
        from ddpm.scoring import distances

        parts = [distances.part(one, self.images) for one in (fake.features, real.features, real.held_out.features)]
        middle, spread = parts[-1].double().mean(0), parts[-1].double().std(0)
        varies = spread > 0
        samples, train, test = (((part.double() - middle) / spread)[:, varies] for part in parts)
        first, second = train[noise.uniform(SEED, "fld", torch.arange(len(train)), 0).argsort()].tensor_split(2)
        first = first[: len(samples)]
        drawn, best = (
            (centres, widths(centres, fitted, self.rounds)) for centres, fitted in ((samples, train), (first, second))
        )
        held_out = surprise(test, *drawn)
        return {
            "fld": 100 * (held_out - surprise(test, *best)),
            "fld_gap": 100 * (surprise(train, *drawn) - held_out),
        }


def widths(centres: Tensor, points: Tensor, rounds: int) -> Tensor:
    """The variances, (M,), of Gaussians around (M, D) centres, of equal weight, that make (N, D) points most likely.

    Another component, around the points' mean, is fitted with them and left out of the result. It takes the points that
    no centre explains, which else would widen the nearest one.
    """
    import torch

    near, remote = _squared(points, centres), INSIDE**2 * (points - points.mean(0)).square().sum(1, keepdim=True)
    every, dimensions = torch.cat([near, remote], 1), points.shape[1]
    variances = torch.cat([(near.min(0).values + MARGIN) / dimensions, near.new_ones(1)])
    for _ in range(rounds):
        logs = _log_densities(every, variances, dimensions)
        logs[:, :-1] -= math.log(len(centres))
        shares = logs.softmax(1)
        mass = shares.sum(0)
        fitted = (shares * every).sum(0) / (dimensions * mass)
        variances = torch.where(mass > 0, fitted, variances).clamp(min=NARROWEST)
    return variances[:-1]


def surprise(points: Tensor, centres: Tensor, variances: Tensor) -> float:
    """-log p of (N, D) points in nats per feature, the mean, for Gaussians of equal weight."""
    logs = _log_densities(_squared(points, centres), variances, points.shape[1]).logsumexp(1)
    return float((math.log(len(centres)) - logs).mean()) / points.shape[1]


def _squared(points: Tensor, centres: Tensor) -> Tensor:
    """(N, M)."""
    import torch

    from ddpm.scoring import distances

    return torch.cat([block for _, block in distances.squared(points, centres)])


def _log_densities(squared: Tensor, variances: Tensor, dimensions: int) -> Tensor:
    return -0.5 * squared / variances - dimensions / 2 * (2 * math.pi * variances).log()
