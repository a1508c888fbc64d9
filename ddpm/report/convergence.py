"""How far a model is from the smallest possible denoising error, in words: a record's ``noise_levels``, read.

ddpm/evaluation/least_error.py says what the numbers are. No threshold here is a matter of taste: something is said
only if it exceeds the standard errors over the images, at a level that all noise levels share (Bonferroni). The rows
are first pooled to at most BANDS bands of equal width in log-SNR. The standard error of a pooled mean is taken as the
mean of the rows' standard errors, the largest that it can be: the rows are of the same images.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from ddpm.base.errors import UserError
from ddpm.pictures import plots
from ddpm.pictures.plots import Panel
from ddpm.report.blocks import Block, Figure
from ddpm.runs.record import Record

BANDS = 12
ALPHA = 0.05  # the chance that a sentence is said by mistake
ROUNDING = 1e-3  # share of an error: a network gets x_t in float32
TINY = 1e-12  # against a division by 0
LOG_SNR = "log-SNR (less noise to the right)"  # of an axis
ABOVE = (
    "The model's error minus the optimum's, with two standard errors, as a share of the error. A denoiser that knows "
    "the train images by heart is the optimum: 0 on them is memorisation. The least error on new images is between."
)

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Levels: TypeAlias = dict[str, Array]  # a record's noise levels: column -> (K,), in order of t

SPLITS = {"train": "train", "test": "held-out"}
# on train and on held-out images: columns of a record's noise levels
ERRORS = [[f"{name}_{split}{se}" for split in SPLITS] for name in ("error", "optimum", "excess") for se in ("", "_se")]


def numbers(run: Record, *names: str) -> Levels | None:
    """Those columns of a record's noise levels; None if one is missing or has no numbers."""
    table = run.noise_levels
    columns = table.columns if table else {}
    levels = {name: np.array(columns.get(name, [np.nan]), float) for name in names}
    return levels if all(np.isfinite(values).all() for values in levels.values()) else None


def errors(run: Record) -> Levels:
    """The errors of the model and of the optimum, with their standard errors. Raises UserError."""
    draws = [f"draws_{split}" for split in SPLITS]
    levels = numbers(run, "t", "steps", "log_snr", *sum(ERRORS, draws))
    if levels is None or min(levels[name].min() for name in draws) < 2:
        raise UserError(f"{run.name}: no denoising errors of several images in its record: see evaluate.likelihood")
    return levels


def groups(log_snr: Array) -> list[NDArray[np.int64]]:
    """The rows of each band, in the order of the rows: at most BANDS bands, equally wide in log-SNR."""
    edges = np.linspace(log_snr.max(), log_snr.min(), BANDS + 1)[1:-1]
    band = np.searchsorted(-edges, -log_snr)
    return [np.flatnonzero(band == number) for number in np.unique(band)]


def averages(values: Array, weights: Array, bands: list[NDArray[np.int64]]) -> Array:
    """The weighted mean of each band."""
    return np.array([np.average(values[band], weights=weights[band]) for band in bands])


def spans(t: Array, steps: Array, bands: list[NDArray[np.int64]]) -> Array:
    """The first and the last t of each band, (K, 2); a row of the noise levels is in the middle of its steps."""
    half = (steps - 1) / 2
    return np.array([(t[band[0]] - half[band[0]], t[band[-1]] + half[band[-1]]) for band in bands])


class Diagnosis(NamedTuple):
    """Of one model, by bands of noise levels, of which ``spans`` has the first and last t, (K, 2).

    known: (K,) the highest noise levels, at which train and held-out images have the same optimum. within: the upper
    limit of the error above that optimum there, as a share of it; None if there is no such level. limited, memorising:
    (K,) the levels at which the error is above the optimum on train and on held-out images, and at which it is lower on
    train images. above, lower: the most by which it is so, as a share of the optimum, and of the error on held-out
    images. converged: whether neither error is above the optimum by more than noise where the optimum is known, nor
    both anywhere.
    """

    spans: Array
    known: Mask
    within: float | None
    limited: Mask
    above: float
    memorising: Mask
    lower: float
    converged: bool

    def sentences(self) -> list[str]:
        """What this says about the model, the nearness to the optimum first."""
        said = ["these train images do not show whether it has converged"]
        if self.within is not None:
            reached = f"within {self.within:.1%} of" if self.within <= 1 else f"up to {1 + self.within:.2g} times"
            if self.converged and self.within <= 1:
                reached = f"converged {reached}"
            said = [f"{reached} the smallest possible error at {self._span(self.known)}"]
        if self.limited.any():
            where = self._span(self.limited)
            said.append(f"limited by capacity or training at {where}: up to {self.above:.1%} above the optimum")
        elif self.converged:
            said.append("no sign that a larger network or a longer training would do better")
        if not self.memorising.any():
            return [*said, "no sign of memorising"]
        where = self._span(self.memorising)
        return [*said, f"memorising at {where}: its error is up to {self.lower:.1%} lower on train images"]

    def _span(self, where: Mask) -> str:
        return f"t = {self.spans[where].min():.0f} to {self.spans[where].max():.0f}"


def diagnose(levels: Levels) -> Diagnosis:
    """What the errors of one model, or of one snapshot of it, say about it."""
    bands = groups(levels["log_snr"])
    steps = np.array([levels["steps"][band].sum() for band in bands])
    freedom = min(levels[f"draws_{split}"].min() for split in SPLITS) - 1
    near, far = (float(stdtrit(freedom, 1 - ALPHA / count)) for count in (1, len(bands)))  # standard errors
    error, error_se, optimum, optimum_se, excess, excess_se = (  # each (2, K)
        np.array([averages(levels[name], levels["steps"], bands) for name in names]) for names in ERRORS
    )
    apart = optimum[1] - optimum[0] > far * np.hypot(*optimum_se)
    known = ~np.logical_or.accumulate(apart[::-1])[::-1]
    limited = np.all(excess > np.maximum(far * excess_se, ROUNDING * error), axis=0)
    gap = error[1] - error[0]
    memorising = gap > far * np.hypot(*error_se)

    within, converged = None, False
    # over the known levels, in units of the optimum's sum; a level counts for each of its steps
    best, shares, noise = (part[:, known] @ steps[known] for part in (optimum, excess, excess_se))
    if best.min() > 0:
        shares, noise = shares / best, noise / best
        within = max(0.0, float((shares + near * noise).max()))
        converged = bool((shares <= np.maximum(near * noise, ROUNDING)).all() and not limited.any())

    def most(values: Array, whole: Array, where: Mask) -> float:
        return float((values / np.maximum(whole, TINY))[where].max(initial=0))

    above, lower = most(excess[1], optimum[1], limited), most(gap, error[1], memorising)
    return Diagnosis(
        spans(levels["t"], levels["steps"], bands), known, within, limited, above, memorising, lower, converged
    )


def show_excess(run: Record) -> list[Block]:
    """How far the model's error is above the smallest possible one, by noise level. Raises UserError."""
    levels = errors(run)
    # at less noise the optimum is so far off on held-out images that it would hide all else
    near = levels["excess_test"] > -levels["error_test"] / 2
    above = {}
    for split, name in SPLITS.items():
        share = 100 / np.maximum(levels[f"error_{split}"], TINY)
        excess, error = share * levels[f"excess_{split}"], share * levels[f"excess_{split}_se"]
        above[name] = np.stack([levels["log_snr"], excess, excess - 2 * error, excess + 2 * error], 1)[near]
    panel = Panel("excess over the optimum", LOG_SNR, "% of the model's error", above, {"optimum": 0.0})
    return [Figure(ABOVE, "excess", partial(plots.lines, panels=[panel]))]
