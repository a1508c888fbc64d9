"""Where in the noise one arm denoises better than another: their errors on held-out images, paired by seed.

The error is in one unit for every target, and compared at the same log-SNR: with another schedule, t would be another
noise level. The bands over the seeds hold at all noise levels together (Bonferroni).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from ddpm.pictures import plots
from ddpm.pictures.plots import Panel
from ddpm.report.blocks import Block, Figure, Note
from ddpm.report.convergence import LOG_SNR, Array, Levels, Mask, averages, groups, numbers, spans
from ddpm.runs.record import Record
from ddpm.verdicts import statistics

FEWEST = 4  # seeds: with fewer the band is wider than any difference
EDGES = -100, 100  # %: what is beyond is drawn at the edge, because it would flatten the rest

CAPTION = (
    "Where in the noise an arm denoises held-out images better or worse than the baseline: the mean over the "
    "training seeds, and a band that holds at all noise levels together."
)


class Difference(NamedTuple):
    """An arm's held-out error minus the baseline's, as a share of the baseline's, by band of noise levels.

    log_snr: (K,). t: (K, 2), the baseline's first and last of each band. share: (K,) the mean over the seeds; low,
    high: (K,) the ends of its band.
    """

    baseline: str
    arm: str
    log_snr: Array
    t: Array
    share: Array
    low: Array
    high: Array

    def places(self, where: Mask) -> str:
        """Where some bands are: "1 to 35 and 410 to 1000"."""
        at = np.flatnonzero(where)
        runs = np.split(at, np.flatnonzero(np.diff(at) > 1) + 1)
        return " and ".join(f"{self.t[run[0], 0]:.0f} to {self.t[run[-1], 1]:.0f}" for run in runs)

    def sentence(self) -> str:
        """Where the arm is better or worse, beyond the noise of the seeds."""
        parts = [
            f"{word} at {self.baseline}'s t = {self.places(where)} (by up to {np.abs(self.share[where]).max():.1%})"
            for word, where in (("lower", self.high < 0), ("higher", self.low > 0))
            if where.any()
        ]
        what = ", ".join(parts) or "nowhere lower or higher beyond noise"
        return f"where in the noise: {self.arm}'s error on held-out images, against {self.baseline}'s, is {what}"


def differences(arms: Mapping[str, Mapping[int, Record]], confidence: float) -> list[Difference]:
    """Each arm that shares FEWEST seeds with the first against that. Runs without these errors, such as those without a
    likelihood, are left out."""
    levels = {
        label: {
            seed: known for seed, run in arm.items() if (known := numbers(run, "t", "steps", "log_snr", "error_test"))
        }
        for label, arm in arms.items()
    }
    baseline, *others = levels
    pairs = {
        label: [(levels[baseline][seed], run) for seed, run in levels[label].items() if seed in levels[baseline]]
        for label in others
    }
    return [_difference(baseline, label, of, confidence) for label, of in pairs.items() if len(of) >= FEWEST]


def _difference(baseline: str, arm: str, pairs: Sequence[tuple[Levels, Levels]], confidence: float) -> Difference:
    t, steps, log_snr = (pairs[0][0][name] for name in ("t", "steps", "log_snr"))
    ranges = [one["log_snr"] for one in sum(pairs, ())]
    inside = np.all([(log_snr >= x.min()) & (log_snr <= x.max()) for x in ranges], axis=0)
    t, steps, log_snr = t[inside], steps[inside], log_snr[inside]
    bands = groups(log_snr)

    def error(run: Levels) -> Array:
        return averages(np.interp(-log_snr, -run["log_snr"], run["error_test"]), steps, bands)

    before, after = (np.array([error(run) for run in side]) for side in zip(*pairs, strict=True))
    gaps, mean = (after - before).T, before.mean(0)
    test = statistics.t_test(gaps, 0.0, 1 - (1 - confidence) / len(bands))
    places = averages(log_snr, steps, bands), spans(t, steps, bands)
    return Difference(baseline, arm, *places, test.mean / mean, test.low / mean, test.high / mean)


def shown(arms: Mapping[str, Mapping[int, Record]], confidence: float) -> list[Block]:
    """A figure of all arms, and a sentence for each; nothing if none can be compared."""
    if not (compared := differences(arms, confidence)):
        return []
    baseline = compared[0].baseline
    curves = {
        one.arm: np.column_stack([one.log_snr, *(np.clip(100 * np.array([one.share, one.low, one.high]), *EDGES))])
        for one in compared
    }
    title, y = "error on held-out images by noise level", f"% of the error of {baseline}, at most {EDGES[1]}"
    panel = Panel(title, LOG_SNR, y, curves, {baseline: 0.0})
    figure = Figure(CAPTION, "noise_levels", partial(plots.lines, panels=[panel]))
    return [figure, *(Note(one.sentence()) for one in compared)]
