"""Which scores can be judged, and which direction is better.

A score's name is its place in metrics/evaluate.json: ``<extractor>.<metric>``, such as ``classifier.fd``, or a metric
alone, such as ``bits_per_dim``. Deeper names describe the data (``real.classifier.fd``) or what needs no network
(``yardsticks.gaussian.classifier.fd``), or say whether the model copies (``memorisation.pixels.share``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ddpm.params.config import Compare
from ddpm.scoring import metric

MEMORISATION = "memorisation."  # prefix of the scores that show whether the samples are copies
GAUSSIAN = "yardsticks.gaussian"
# prefix of the scores of other images than the model's -> what they are
OTHERS = {GAUSSIAN: "a Gaussian", "yardsticks.class_gaussians": "one per class", "real": "real images"}
# by name without the extractor, in the order in which they are shown
OF_EXTRACTOR = {score.name: score for score in metric.of_extractors()}
ALONE = {score.name: score for score in metric.LIKELIHOOD}
SCORES = OF_EXTRACTOR | ALONE
# a relative change of these does not show what a gap is worth
ABSOLUTE = (*(name for name, score in SCORES.items() if score.is_share), metric.CLASS_ACCURACY.name, *ALONE)
HEADLINE = ("fid", "fd")  # the Fréchet distance, under its name for Inception and for any other extractor
UNIFORM = 8.0  # bits per dimension of a uniform guess among the 256 values of a uint8
# another view of a score, not another score
EXTRAPOLATED = tuple(name for name, score in OF_EXTRACTOR.items() if score.of)


def is_judged(name: str) -> bool:
    """Whether one value of this score is better than another."""
    extractor, _, score = name.rpartition(".")
    return score in OF_EXTRACTOR if extractor and "." not in extractor else name in ALONE


def kind(name: str) -> str:
    """The metric's name alone: ``fd`` for ``classifier.fd``."""
    return name.rpartition(".")[2]


def estimated(name: str) -> str:
    """What it is an estimate of, without the extractor: ``fd`` for ``classifier.fd_infinity``; mostly itself."""
    return SCORES[kind(name)].of or kind(name)


def title(name: str) -> str:
    """The metric's title for people, such as ``FD`` for ``classifier.fd``."""
    return SCORES[kind(name)].title or kind(name)


def direction(name: str) -> metric.Direction:
    """Which direction is better, of a score that is judged."""
    return SCORES[kind(name)].direction


def margin(name: str, baseline: float, compare: Compare) -> float:
    """The smallest gap that matters in this metric, in its own unit. baseline: the baseline's mean.

    Another estimate of the same has the same floor: ``fd_infinity`` that of ``fd``."""
    floor = compare.floors.get(estimated(name))
    if floor is not None and kind(name) in ABSOLUTE:
        return floor
    return max(compare.threshold * abs(baseline), floor or 0.0)


def is_useless(name: str, score: float) -> bool:
    """Whether a likelihood is no better than a uniform guess's."""
    return name in ALONE and score >= UNIFORM


def is_next_to_0(name: str, score: float, margin: float) -> bool:
    """Whether a share of the images, such as recall, is as good as 0, which is the worst there is."""
    return SCORES[kind(name)].is_share and score < margin


def gain(name: str, difference: float) -> float:
    """The difference, signed so that positive is better."""
    return difference if direction(name) == "higher" else -difference


def others(scores: Mapping[str, float], name: str) -> dict[str, tuple[float, int]]:
    """That score of the yardsticks and of real images, and the number of images, by what they are; without those
    that have no such score, as of a likelihood."""
    extractor = name.rpartition(".")[0]
    return {
        what: (scores[f"{prefix}.{name}"], int(scores[f"{prefix}.{extractor}.count"]))
        for prefix, what in OTHERS.items()
        if f"{prefix}.{name}" in scores and f"{prefix}.{extractor}.count" in scores
    }


def gaussian(runs: Iterable[Mapping[str, float]], name: str) -> float | None:
    """The Gaussian's mean score over the runs, whose scores are given, if the score is a distance and all runs have
    it. Others decide nothing: a Gaussian of the train images may well have a higher recall than a good model."""
    given = [scores.get(f"{GAUSSIAN}.{name}") for scores in runs]
    known = [score for score in given if score is not None]
    return sum(known) / len(known) if known and len(known) == len(given) and direction(name) == "lower" else None


def is_headline(name: str) -> bool:
    """Whether it is the Fréchet distance of an extractor, by which the field ranks models."""
    return is_judged(name) and kind(name) in HEADLINE


def kid_of(name: str) -> str | None:
    """The kernel distance in the same extractor's features, which must agree with a Fréchet distance; else None."""
    return f"{name.rpartition('.')[0]}.kid_mean" if estimated(name) in HEADLINE else None


class Closeness(NamedTuple):
    """How near the samples come to train images in one space: ``memorisation.<space>.*``, as
    ddpm/scoring/memorisation.py measures it."""

    space: str
    share: float
    expected: float
    limit: float
    ratio: float

    @property
    def copies(self) -> bool:
        return self.share > self.limit


def closeness(scores: Mapping[str, float]) -> list[Closeness]:
    """One for each space in the scores."""
    spaces = []
    for name in sorted(scores):
        if name.startswith(MEMORISATION) and name.endswith(".limit"):
            values = (scores.get(f"{name.removesuffix('limit')}{field}", math.nan) for field in Closeness._fields[1:])
            spaces.append(Closeness(name.split(".")[1], *values))
    return spaces


def copied(scores: Mapping[str, float]) -> list[str]:
    """The spaces in which the model copies train images."""
    return [space.space for space in closeness(scores) if space.copies]


def judged(names: Iterable[str]) -> list[str]:
    """Those that are judged, in ``in_order``; without the extrapolated ones, which users must ask for."""
    return in_order(name for name in names if is_judged(name) and kind(name) not in EXTRAPOLATED)


def in_order(names: Iterable[str]) -> list[str]:
    """Judged scores, headlines first, then in the table's order."""
    table = [*OF_EXTRACTOR, *ALONE]
    return sorted(names, key=lambda name: (not is_headline(name), table.index(kind(name)), name))
