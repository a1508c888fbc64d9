"""Which scores can be judged, and which way is better.

A score's name is its place in metrics/evaluate.json: ``<extractor>.<metric>``, such as ``classifier.fd``, or a metric
alone, such as ``bits_per_dim``. Deeper names describe the data (``real.classifier.fd``), or say whether the
model copies it (``memorisation.pixels.share``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from ddpm.base.errors import UserError
from ddpm.base.variant import closest, shown
from ddpm.params.config import Compare

Direction = Literal["lower", "higher"]

MEMORISATION = "memorisation."  # begins the names of what says whether the samples are copies
# metric of an extractor -> which way is better, in the order in which they are shown
OF_EXTRACTOR: dict[str, Direction] = {
    "fid": "lower",
    "fd": "lower",
    "kid_mean": "lower",
    "is_mean": "higher",
    "precision": "higher",
    "recall": "higher",
    "fid_infinity": "lower",
    "fd_infinity": "lower",
}
ALONE: dict[str, Direction] = {"bits_per_dim": "lower"}
SHARES = ("precision", "recall")  # of images, 0 to 1
ABSOLUTE = (*SHARES, "bits_per_dim")  # a share of their value says nothing about what a gap is worth
# in words, where the name itself is none
TITLES = {
    "fid": "FID",
    "fd": "FD",
    "kid_mean": "KID",
    "is_mean": "inception score",
    "fid_infinity": "FID at infinity",
    "fd_infinity": "FD at infinity",
    "bits_per_dim": "bits per dimension",
}
HEADLINE = ("fid", "fd")  # the Fréchet distance, under its name for Inception and for any other extractor
EXTRAPOLATED = ("fid_infinity", "fd_infinity")  # of the headline: another view of it, not another metric


def is_judged(name: str) -> bool:
    """Whether one value of this score is better than another."""
    extractor, _, metric = name.rpartition(".")
    return metric in OF_EXTRACTOR if extractor and "." not in extractor else name in ALONE


def kind(name: str) -> str:
    """The metric alone: ``fd`` of ``classifier.fd``."""
    return name.rpartition(".")[2]


def title(name: str) -> str:
    """In words: ``FD`` of ``classifier.fd``."""
    return TITLES.get(kind(name), kind(name))


def direction(name: str) -> Direction:
    """Which way is better. Raises UserError, with the closest name, for a score that is not judged."""
    if not is_judged(name):
        known = [*ALONE, *OF_EXTRACTOR]
        raise UserError(
            f"metric: unknown {shown(name)}{closest(kind(name), known)}; allowed: {', '.join(ALONE)}, and "
            f"after an extractor's name and a dot {', '.join(OF_EXTRACTOR)}"
        )
    return (OF_EXTRACTOR | ALONE)[kind(name)]


def floor(name: str, settings: Compare) -> float | None:
    """A change of this metric that never counts, in its own unit, where ``compare.floors`` has one."""
    metric = kind(name).removesuffix("_infinity")
    return next((change for known, change in settings.floors.items() if known == metric), None)


def margin(name: str, baseline: float, settings: Compare) -> float:
    """The smallest gap that matters in this metric, in its own unit, where the baseline's mean is that."""
    least = floor(name, settings)
    if least is not None and kind(name) in ABSOLUTE:
        return least
    return max(settings.threshold * abs(baseline), least or 0.0)


def gain(name: str, difference: float) -> float:
    """The difference, signed so that above 0 is better."""
    return difference if direction(name) == "higher" else -difference


def is_headline(name: str) -> bool:
    """Whether it is the Fréchet distance of an extractor, by which the field ranks models."""
    return is_judged(name) and kind(name) in HEADLINE


def kid_of(name: str) -> str | None:
    """The kernel distance in the same extractor's features, which has to agree with a Fréchet distance; else None."""
    extractor, _, metric = name.rpartition(".")
    return f"{extractor}.kid_mean" if metric in (*HEADLINE, *EXTRAPOLATED) else None


class Closeness(NamedTuple):
    """How near the samples come to train images in one space: ``memorisation.<space>.*``, as
    ddpm/evaluation/memorisation.py measures it."""

    space: str
    share: float
    expected: float
    limit: float
    ratio: float

    @property
    def copies(self) -> bool:
        return self.share > self.limit


def closeness(scores: Mapping[str, float]) -> list[Closeness]:
    """Of every space that the scores have; none for a run that an older version scored, without limits."""
    found = []
    for name in sorted(scores):
        if name.startswith(MEMORISATION) and name.endswith(".limit"):
            values = (scores.get(f"{name.removesuffix('limit')}{field}", math.nan) for field in Closeness._fields[1:])
            found.append(Closeness(name.split(".")[1], *values))
    return found


def copied(scores: Mapping[str, float]) -> list[str]:
    """The spaces in which the model copies train images."""
    return [found.space for found in closeness(scores) if found.copies]


def judged(names: Iterable[str]) -> list[str]:
    """Those that are judged, without the extrapolated ones, which have to be asked for; ``in_order``."""
    return in_order(name for name in names if is_judged(name) and kind(name) not in EXTRAPOLATED)


def in_order(names: Iterable[str]) -> list[str]:
    """Judged scores, headlines first, then in the table's order."""
    table = [*OF_EXTRACTOR, *ALONE]
    return sorted(names, key=lambda name: (not is_headline(name), table.index(kind(name)), name))
