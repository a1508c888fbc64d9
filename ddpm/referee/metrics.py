"""Which scores can be judged, and which direction is better.

A score's name is its place in metrics/evaluate.json: ``<extractor>.<metric>``, such as ``classifier.fd``, or a metric
alone, such as ``bits_per_dim``. Deeper names describe the data (``real.classifier.fd``) or what needs no network
(``yardsticks.gaussian.classifier.fd``), or say whether the model copies (``memorisation.pixels.share``).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from ddpm.params.config import Compare
from ddpm.scoring import metric

MEMORISATION = "memorisation."  # prefix of the scores that show whether the samples are copies
GAUSSIAN, PER_CLASS = "yardsticks.gaussian", "yardsticks.class_gaussians"
# prefix of the scores of other images than the model's -> what they are
OTHERS = {GAUSSIAN: "a Gaussian", PER_CLASS: "one per class", "real": "real images"}
# by name without the extractor, in the order in which they are shown
OF_EXTRACTOR = {score.name: score for score in metric.of_extractors()}
ALONE = {score.name: score for score in metric.LIKELIHOOD}
SCORES = OF_EXTRACTOR | ALONE
# scores whose floor is the whole margin: a relative change does not show what a gap is worth
ABSOLUTE = (*(name for name, score in SCORES.items() if score.is_share), metric.CLASS_ACCURACY.name, *ALONE)
HEADLINE = ("fid", "fd")  # the Fréchet distance, under its name for Inception and for any other extractor
EYES = "panel."  # prefix of each eye's share of the way from real images to the yardstick, which has 1
PANEL = f"{EYES}{metric.PANEL.name}"  # all eyes together
RECALL = "recall"
UNIFORM = 8.0  # bits per dimension of a uniform guess among the 256 values of a uint8


def is_judged(name: str) -> bool:
    """Whether one value of this score is better than another."""
    extractor, _, score = name.rpartition(".")
    return score in OF_EXTRACTOR if extractor and "." not in extractor else name in ALONE


def kind(name: str) -> str:
    """The metric's name alone: ``fd`` for ``classifier.fd``."""
    return name.rpartition(".")[2]


def estimand(name: str) -> str:
    """The metric that a score estimates, without the extractor: ``fd`` for ``classifier.fd_infinity`` and ``fd``."""
    return SCORES[kind(name)].of or kind(name)


def title(name: str) -> str:
    """The metric's title for people, such as ``FD`` for ``classifier.fd``. A program's score has its own name."""
    score = SCORES.get(kind(name)) if "." in name or name in ALONE else None
    return (score and score.title) or kind(name)


def direction(name: str) -> metric.Direction:
    """Which direction is better, for a score that is judged."""
    return "lower" if name.startswith(EYES) else SCORES[kind(name)].direction


def margin(name: str, baseline: float, compare: Compare) -> float:
    """The smallest gap that matters in this metric, in its own unit. baseline: the baseline's mean.

    Another estimate of the same metric has the same floor: ``fd_infinity`` has that of ``fd``."""
    floor = compare.floors.get(metric.PANEL.name if name.startswith(EYES) else estimand(name))
    if floor is not None and kind(name) in ABSOLUTE:
        return floor
    return max(compare.threshold * abs(baseline), floor or 0.0)


def is_useless(name: str, score: float) -> bool:
    """Whether a likelihood is no better than a uniform guess's."""
    return name in ALONE and score >= UNIFORM


def others(scores: Mapping[str, float], name: str) -> dict[str, tuple[float, int]]:
    """That score of the yardsticks and of real images, with the number of images, by what they are. Those without
    such a score, for example a likelihood, are left out."""
    extractor = name.rpartition(".")[0]
    return {
        what: (scores[f"{prefix}.{name}"], int(scores[f"{prefix}.{extractor}.count"]))
        for prefix, what in OTHERS.items()
        if f"{prefix}.{name}" in scores and f"{prefix}.{extractor}.count" in scores
    }


def gaussian(runs: Iterable[Mapping[str, float]], name: str, of: str = GAUSSIAN) -> float | None:
    """The Gaussian's mean score over the runs, whose scores are given; None unless the score is a distance that all
    runs have. Other scores decide nothing: a Gaussian of the train images may well have a higher recall than a good
    model."""
    if name == PANEL:
        return 1.0
    given = [scores.get(f"{of}.{name}") for scores in runs]
    known = [score for score in given if score is not None]
    return sum(known) / len(known) if known and len(known) == len(given) and direction(name) == "lower" else None


def decider(runs: Iterable[Mapping[str, float]], primary: str) -> str:
    """The metric that says whether models are better than a Gaussian: the panel's score where all runs have one, since
    a single eye may be at fault, and otherwise the primary one."""
    return PANEL if all(PANEL in scores for scores in runs) else primary


def select_eyes(runs: Sequence[Mapping[str, float]], primary: str) -> list[str]:
    """The scores that must not contradict a verdict in the primary metric: of all that the runs have, each eye of the
    panel or, without a panel, the Fréchet distances in other features; and each recall. None if the primary metric is
    neither a panel's score nor a Fréchet distance."""
    if primary != PANEL and not is_headline(primary):
        return []
    shared = set[str].intersection(*(set(scores) for scores in runs))
    seen = {name for name in shared if name.startswith(EYES)} or set(filter(is_headline, shared))
    recalls = (name for name in shared if is_judged(name) and kind(name) == RECALL)
    return sorted({*seen, *recalls} - {primary, PANEL})


def list_panel(runs: Sequence[Mapping[str, float]]) -> list[str]:
    """The panel's scores that all runs have: its own, each eye's, the opponents' AUC, precision and recall."""
    shared = set[str].intersection(*(set(scores) for scores in runs)) if runs else set()
    others = (name for name in shared if is_judged(name) and kind(name) in ("auc", "precision", RECALL))
    eyes = sorted(name for name in shared if name.startswith(EYES) and name != PANEL)
    return [PANEL, *eyes, *sorted(others)] if PANEL in shared else []


def means(runs: Sequence[Mapping[str, float]], names: Iterable[str]) -> dict[str, float]:
    """The mean of each score over the runs, whose scores are given; none without runs."""
    return {name: fmean(scores[name] for scores in runs) for name in names if runs}


def yardstick(run: Mapping[str, float], name: str) -> float | None:
    """The score that a model has to beat before a difference means anything: the better one of the Gaussians in a run's
    scores, of all train images and one per class. None as ``gaussian``."""
    known = [score for of in (GAUSSIAN, PER_CLASS) if (score := gaussian([run], name, of)) is not None]
    return min(known, default=None)


def is_early(score: float, yardstick: float | None) -> bool:
    """Whether a model with this score has learned less than a Gaussian knows, so that nothing about it is a finding."""
    return yardstick is not None and score > yardstick


def is_headline(name: str) -> bool:
    """Whether it is the Fréchet distance of an extractor, by which the field ranks models."""
    return is_judged(name) and kind(name) in HEADLINE


def kid_of(name: str) -> str | None:
    """The kernel distance in the same features, which must agree with a Fréchet distance; None for other scores."""
    return f"{name.rpartition('.')[0]}.kid_mean" if estimand(name) in HEADLINE else None


class Closeness(NamedTuple):
    """How close the samples come to train images in one space: ``memorisation.<space>.*``, as
    ddpm/scoring/memorisation.py measures it."""

    space: str
    share: float
    expected: float
    limit: float

    @property
    def copies(self) -> bool:
        return self.share > self.limit


def closeness(scores: Mapping[str, float]) -> list[Closeness]:
    """One for each space in the scores."""
    spaces = []
    for limit in sorted(name for name in scores if name.startswith(MEMORISATION) and name.endswith(".limit")):
        values = (scores.get(f"{limit.removesuffix('limit')}{field}", math.nan) for field in Closeness._fields[1:])
        spaces.append(Closeness(limit.split(".")[1], *values))
    return spaces


def find_copies(scores: Mapping[str, float]) -> list[str]:
    """The spaces in which the model copies train images."""
    return [space.space for space in closeness(scores) if space.copies]


def select_judged(names: Iterable[str]) -> list[str]:
    """The scores that are judged, as ``in_order`` sorts them, except for other estimates of the same, such as
    ``fd_infinity``, which users must ask for."""
    return in_order(name for name in names if is_judged(name) and not SCORES[kind(name)].of)


def in_order(names: Iterable[str]) -> list[str]:
    """The judged scores: the panel's first, then headlines, then in the table's order."""
    table = [*OF_EXTRACTOR, *ALONE]
    return sorted(names, key=lambda name: (name != PANEL, not is_headline(name), table.index(kind(name)), name))
