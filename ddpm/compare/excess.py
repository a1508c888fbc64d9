"""How far a model is from the smallest possible denoising error, in words: metrics/excess.csv, read.

ddpm/evaluation/least_error.py says what the numbers are. No threshold here is a matter of taste: something is said only
if it exceeds the standard errors over the images, at a level that all noise levels share (Bonferroni). The rows of the
file are first pooled to at most BANDS bands of equal width in log-SNR. The standard error of a pooled mean is taken as
the mean of the rows' standard errors, the largest that it can be: the rows are of the same images.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from ddpm.base import paths
from ddpm.base.errors import UserError
from ddpm.compare.revisions import Revision

BANDS = 12
ALPHA = 0.05  # the chance that a sentence is said by mistake
ROUNDING = 1e-3  # share of an error: a network gets x_t in float32

Array = NDArray[np.float64]
SPLITS = ("train", "test")
PLACED = ("t", "steps", "log_snr")
LOG_SNR = "log-SNR (less noise to the right)"  # of an axis


class Measured(NamedTuple):
    """Of one split, by noise level, (K,): means over ``draws`` images, and their standard errors."""

    draws: int
    error: Array
    error_se: Array
    optimum: Array
    optimum_se: Array
    excess: Array
    excess_se: Array


class Levels(NamedTuple):
    """Noise levels, in order of t. first, last: (K,) the t of each; steps: their number; log_snr: their mean."""

    first: Array
    last: Array
    steps: Array
    log_snr: Array
    train: Measured
    test: Measured

    @classmethod
    def read(cls, run: Revision, path: Path = paths.EXCESS) -> Levels:
        """Raises UserError if the file is missing, damaged, empty, or of a single image."""
        errors = [f"{name}_{split}" for split in SPLITS for name in ("error", "optimum", "excess")]
        columns = [column for name in errors for column in (name, f"{name}_se")]
        found = run.columns(str(path), *PLACED, *columns, *(f"draws_{split}" for split in SPLITS))
        if not np.isfinite(found).all() or found[:, -len(SPLITS) :].min() < 2:
            raise UserError(
                f"{run.name}: {path} needs numbers of at least two images: raise evaluate.likelihood.images, and "
                "`dvc repro`"
            )
        t, steps, log_snr, *measured, of_train, of_test = found[np.argsort(found[:, 0])].T
        half = len(measured) // 2
        sides = Measured(int(of_train[0]), *measured[:half]), Measured(int(of_test[0]), *measured[half:])
        return cls(t - (steps - 1) / 2, t + (steps - 1) / 2, steps, log_snr, *sides)

    def pooled(self) -> Levels:
        """In at most BANDS bands."""
        bands = groups(self.log_snr)

        def mean(values: Array) -> Array:
            return averages(values, self.steps, bands)

        return Levels(
            np.array([self.first[band].min() for band in bands]),
            np.array([self.last[band].max() for band in bands]),
            np.array([self.steps[band].sum() for band in bands]),
            mean(self.log_snr),
            *(Measured(side.draws, *map(mean, side[1:])) for side in (self.train, self.test)),
        )

    def span(self, chosen: NDArray[np.bool_]) -> str:
        """The t of the chosen levels: from the first to the last of them."""
        return f"t = {self.first[chosen].min():.0f} to {self.last[chosen].max():.0f}"


def groups(log_snr: Array) -> list[NDArray[np.int64]]:
    """The rows of each band, in the order of the rows: at most BANDS bands, equally wide in log-SNR."""
    edges = np.linspace(log_snr.max(), log_snr.min(), BANDS + 1)[1:-1]
    band = np.searchsorted(-edges, -log_snr)
    return [np.flatnonzero(band == each) for each in np.unique(band)]


def averages(values: Array, weights: Array, bands: list[NDArray[np.int64]]) -> Array:
    """The weighted mean of each band."""
    return np.array([np.average(values[band], weights=weights[band]) for band in bands])


class Shortfall(NamedTuple):
    """``where``: (K,) the levels that it is about, ``at`` the one where it is largest; train, test: the error above the
    optimum, as a share of it."""

    where: NDArray[np.bool_]
    at: int
    train: float
    test: float


class Memory(NamedTuple):
    """``where``: (K,) the levels at which the error on train images is lower; largest: by what share of that on
    held-out images. It is 1 for a denoiser that knows the train images by heart."""

    where: NDArray[np.bool_]
    largest: float


class Diagnosis(NamedTuple):
    """Of one model, at ``levels``, which are pooled.

    known: (K,) the highest noise levels, at which train and held-out images have the same optimum. excess: there, the
    error above the optimum on train and on held-out images, as a share of it; within: the upper limit of the larger
    one. None if there is no such level. converged: whether neither is above 0 by more than noise, nor is the error
    above the optimum on both at any other level.
    """

    levels: Levels
    known: NDArray[np.bool_]
    excess: tuple[float, float] | None
    within: float | None
    converged: bool
    limited: Shortfall | None
    memorising: Memory | None

    def sentences(self) -> Iterator[str]:
        levels = self.levels
        if self.excess is None or self.within is None:
            yield (
                "Converged? These train images do not tell: at no noise level is the smallest possible error the same "
                "for train and held-out images."
            )
        else:
            train, test = self.excess
            yield (
                f"{self._reached(self.within)} at {levels.span(self.known)}, where it is the same for train and "
                f"held-out images: there its error is {train:+.1%} from it on train images, {test:+.1%} on held-out "
                "ones."
            )
        if self.limited:
            at, where = self.limited.at, levels.span(self.limited.where)
            middle = (levels.first[at] + levels.last[at]) / 2
            yield (
                f"Limited by capacity or by too little training around t = {middle:.0f} ({where}): there its error is "
                f"{self.limited.train:.1%} above the smallest possible one on train images, and at least "
                f"{self.limited.test:.1%} on held-out ones."
            )
        elif self.converged:
            yield "No sign that a larger network or a longer training would do better; at less noise nobody can tell."
        else:
            yield "Whether a larger network or a longer training would do better, so few images do not tell."
        if self.memorising:
            yield (
                f"Memorising at {levels.span(self.memorising.where)}: its error is up to "
                f"{self.memorising.largest:.1%} lower on train images than on held-out ones (100% if it knew them by "
                "heart)."
            )
        else:
            yield "No sign of memorising: its error is not lower on train images than on held-out ones, within noise."

    def _reached(self, within: float) -> str:
        if within > 1:
            return f"Up to {1 + within:.2g} times the smallest possible error"
        return f"{'Converged w' if self.converged else 'W'}ithin {within:.1%} of the smallest possible error"

    def words(self) -> str:
        """The same in a line."""
        said = []
        if self.within is not None:
            said.append(f"{self._reached(self.within).lower()} at {self.levels.span(self.known)}")
        if self.limited:
            said.append(f"limited by capacity or training at {self.levels.span(self.limited.where)}")
        if self.memorising:
            said.append(f"memorising at {self.levels.span(self.memorising.where)}")
        return "; ".join(said) or "too few images to tell"


def diagnose(measured: Levels) -> Diagnosis:
    """What ``measured``, of one model or of one snapshot of it, says about it."""
    levels = measured.pooled()
    train, test = levels.train, levels.test
    freedom = min(train.draws, test.draws) - 1
    far = float(stdtrit(freedom, 1 - ALPHA / len(levels.steps)))  # standard errors
    apart = test.optimum - train.optimum > far * np.hypot(train.optimum_se, test.optimum_se)
    known = ~np.logical_or.accumulate(apart[::-1])[::-1]
    excess, within, clear = None, None, False
    if known.any() and min(side.optimum[known].sum() for side in (train, test)) > 0:
        shares = [_share(side.excess, side, known, levels.steps) for side in (train, test)]
        errors = [_share(side.excess_se, side, known, levels.steps) for side in (train, test)]
        near = float(stdtrit(freedom, 1 - ALPHA))
        excess = (shares[0], shares[1])
        within = max(0.0, *(share + near * error for share, error in zip(shares, errors, strict=True)))
        clear = all(share <= max(near * error, ROUNDING) for share, error in zip(shares, errors, strict=True))
    limited = None
    on_train, on_test = (
        side.excess > np.maximum(far * side.excess_se, ROUNDING * side.error) for side in (train, test)
    )
    above = on_train & on_test
    if above.any():
        at = int(np.argmax(np.where(above, test.excess, -np.inf)))
        limited = Shortfall(above, at, *(float(side.excess[at] / side.optimum[at]) for side in (train, test)))
    memorising = None
    gap = test.error - train.error
    lower = gap > far * np.hypot(train.error_se, test.error_se)
    if lower.any():
        memorising = Memory(lower, float((gap / test.error)[lower].max()))
    return Diagnosis(levels, known, excess, within, clear and limited is None, limited, memorising)


def _share(values: Array, side: Measured, chosen: NDArray[np.bool_], steps: Array) -> float:
    """Over the chosen levels, the sum of the values over that of the optimum; a level counts for each of its steps."""
    return float(steps[chosen] @ values[chosen] / (steps[chosen] @ side.optimum[chosen]))
