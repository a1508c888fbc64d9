"""Where in the noise one arm denoises better than another: their errors on held-out images, paired by seed.

The error is in one unit for every target, and compared at the same log-SNR: with another schedule, t would be another
noise level. The bands over the seeds hold at all noise levels together (Bonferroni).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from ddpm.pictures import plots
from ddpm.pictures.plots import Panel
from ddpm.report.blocks import Block, Figure
from ddpm.report.convergence import LOG_SNR, Array, Levels, averages, groups, numbers
from ddpm.runs.record import Record
from ddpm.verdicts import pairing, statistics
from ddpm.verdicts.pairing import Arm
from ddpm.verdicts.verdict import Pair

FEWEST = 4  # seeds: with fewer the band is wider than any difference
EDGES = -100, 100  # %: what is beyond is drawn at the edge, because it would flatten the rest

CAPTION = (
    "Where in the noise an arm denoises held-out images better or worse than the baseline: the mean over the "
    "training seeds, and a band that holds at all noise levels together."
)


def show(arms: Sequence[Arm], confidence: float) -> list[Block]:
    """A figure of all arms against the first; nothing if none can be compared."""
    baseline, *others = arms
    curves = {}
    for arm in others:
        if len(curve := compare_errors(pairing.partners(baseline, arm), confidence)):
            curve[:, 1:] = curve[:, 1:].clip(*EDGES)
            curves[arm.label] = curve
    title, y = "error on held-out images by noise level", f"% of the error of {baseline.label}, at most {EDGES[1]}"
    panel = Panel(title, LOG_SNR, y, curves, {baseline.label: 0.0})
    return [Figure(CAPTION, "noise_levels", partial(plots.lines, panels=[panel]))] if curves else []


def compare_errors(pair: Pair[Record], confidence: float) -> Array:
    """The arm's held-out error minus the baseline's by band of noise levels: (bands, 4) of log-SNR, the mean over seeds
    in % of the baseline's, and the ends of its band. Without FEWEST seeds that have these errors: (0, 4)."""
    sides = ([numbers(run, "steps", "log_snr", "error_test") for run in runs] for runs in (pair.before, pair.after))
    known = [(before, after) for before, after in zip(*sides, strict=True) if before and after]
    if len(known) < FEWEST:
        return np.empty((0, 4))
    steps, log_snr = known[0][0]["steps"], known[0][0]["log_snr"]
    ranges = [run["log_snr"] for both in known for run in both]
    inside = np.all([(log_snr >= x.min()) & (log_snr <= x.max()) for x in ranges], axis=0)
    steps, log_snr = steps[inside], log_snr[inside]
    bands = groups(log_snr)

    def errors(run: Levels) -> Array:
        return averages(np.interp(-log_snr, -run["log_snr"], run["error_test"]), steps, bands)

    before, after = (np.array([errors(run) for run in side]) for side in zip(*known, strict=True))
    test = statistics.t_test((after - before).T, 0.0, 1 - (1 - confidence) / len(bands))
    shares = 100 * np.array([test.mean, test.low, test.high]) / before.mean(0)
    return np.column_stack([averages(log_snr, steps, bands), *shares])
