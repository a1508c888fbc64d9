"""Several eyes on one scale: 0 is held-out real images, 1 the yardstick, a Gaussian of the train images.

The yardstick is one Gaussian per class where the images have classes. An eye is an extractor's Fréchet distance, all at
one number of images, because it is too large by about c / N (ddpm/scoring/frechet.py); or the d' of fresh opponents
(ddpm/variants/metrics/c2st.py), which is 0 for images of the data's own distribution. Eyes that share nothing are not
fooled by the same images: what is fitted to one, knowingly or not, is seen by the others.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from ddpm.scoring import metric, yardsticks
from ddpm.scoring.features import Features, RealFeatures

NAME = "panel"  # begins the names of its scores
T = TypeVar("T")
SHUFFLE = 2020
LEAST_UNIT = 0.005  # of a share, of the features' variance


def measure_panel(
    fakes: Mapping[str, Features],
    real: Mapping[str, RealFeatures],
    opponents: Mapping[str, float],
    yardstick_opponents: Mapping[str, float],
) -> dict[str, float]:
    """Each eye's share, and the ``score`` of all; empty with fewer than two eyes.

    fakes: by extractor. opponents: the ``c2st`` scores of the samples, and of the yardstick; empty if not measured.
    """
    shares = {name: measure_share(fake, real[name]) for name, fake in fakes.items()}
    if opponents and yardstick_opponents:
        shares[metric.OPPONENT] = opponents["d_prime"] / yardstick_opponents["d_prime"]
    return shares | {metric.PANEL.name: combine(shares.values())} if len(shares) >= metric.FEWEST_EYES else {}


def combine(shares: Iterable[float]) -> float:
    """The geometric mean of 1 + share, minus 1: 0 for real images and 1 for the yardstick, as for each eye; linear for
    good models, and by ratios for bad ones, so that one eye alone does not decide among these. A share below 0, closer
    than held-out images, which chance alone makes, counts as 0: it must not make up for what another eye sees."""
    return float(np.expm1(np.mean(np.log1p(np.maximum([*shares], 0)))))


def measure_share(fake: Features, real: RealFeatures) -> float:
    """How far the samples' Fréchet distance is on the way from that of held-out images to that of the yardstick.

    All are measured on as many images as the fewest of them have; of a larger set it is the mean over disjoint parts.
    """
    count = min(len(each.features) for each in (fake, real, real.held_out, find_yardstick(real.yardsticks)))
    zero, unit = _measure_scale(real, count)
    return (_measure_parts(real, fake.features, count) - zero) / unit


@lru_cache(maxsize=16)  # the same for each set of samples
def _measure_scale(real: RealFeatures, count: int) -> tuple[float, float]:
    """The distance of held-out images, and how far the yardstick's is from it.

    The yardstick has the train images' mean and covariance, so linear features of photographs do not see that it is
    none, nor do any in few images. There the unit is how well real images agree with real ones, train with held-out.
    """
    train, held_out = (_measure_parts(real, each, count) for each in (real.features, real.held_out.features))
    drawn = _measure_parts(real, find_yardstick(real.yardsticks).features, count)
    return held_out, max(drawn - held_out, abs(train - held_out), LEAST_UNIT * float(np.trace(real.sigma)))


def _measure_parts(real: RealFeatures, features: Tensor, count: int) -> float:
    """The mean distance of disjoint parts of ``count`` images, drawn at random."""
    order = torch.from_numpy(np.random.default_rng(SHUFFLE).permutation(len(features)))
    parts = features[order[: len(order) // count * count]].split(count)
    return float(np.mean([real.distance(part) for part in parts]))


def find_yardstick(drawn: Mapping[str, T]) -> T:
    """What the yardstick of the panel has, by yardstick: of one Gaussian per class, if there are classes."""
    return drawn.get(yardsticks.PER_CLASS, drawn[yardsticks.GAUSSIAN])
