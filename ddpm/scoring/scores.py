"""Scores: images against the real train images, by metrics on an extractor's features.

Scoring is a pure function of images, reference and settings.
"""

import math

import torch

from ddpm.base.errors import UserError
from ddpm.scoring import frechet
from ddpm.scoring.evaluate_params import Evaluate
from ddpm.scoring.features import Features, RealFeatures
from ddpm.scoring.frechet import Curve
from ddpm.scoring.limits import suitable_metrics

Scores = dict[str, float]


def score(fake: Features, real: RealFeatures, evaluate: Evaluate) -> Scores:
    """``evaluate.metrics`` of images with features ``fake`` against ``real``.

    Raises UserError instead of returning a NaN.
    """
    name = real.extractor.name
    if not (fake.features.isfinite().all() and fake.logits.isfinite().all()):
        raise UserError(f"evaluate.extractors: {name} gives infinite features for these images; check its weights")
    scores: Scores = {}
    for judge in suitable_metrics(evaluate, real.extractor):
        scores |= judge.measure(fake, real, evaluate)
    if bad := [f"{name}.{key}" for key, value in scores.items() if not math.isfinite(value)]:
        raise UserError(f"evaluate.metrics: {', '.join(bad)} is not a finite number for these images: look at them")
    return scores


def with_curve(fake: Features, real: RealFeatures, evaluate: Evaluate) -> tuple[Scores, Curve | None]:
    """``score``, and the Fréchet distance against N, whose limit is among the scores: ``fid_infinity`` for Inception
    and ``fd_infinity`` otherwise, with its standard error. There is no curve without "fid", or of too few images."""
    scores = score(fake, real, evaluate)
    if "fid" not in evaluate.metrics or not frechet.is_enough(len(fake.features), real.extractor.dimensions):
        return scores, None
    curve = frechet.extrapolate(fake.features.to(real.device, torch.float64), real.distance)
    name = f"{real.extractor.frechet}_infinity"
    return scores | {name: curve.infinity, f"{name}_se": curve.infinity_se}, curve
