"""Where in the noise one arm denoises better than another: their errors on held-out images, paired by seed.

The error is in one unit for every target, and compared at the same log-SNR: with another schedule, t would be another
noise level. The bands over the seeds hold at all noise levels together (Bonferroni).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ddpm.base.errors import UserError
from ddpm.pictures.plots import Panel
from ddpm.report.blocks import Block, Figure, Note
from ddpm.report.convergence import LOG_SNR, Levels, averages, groups, numbers
from ddpm.runs.record import Record
from ddpm.verdicts import statistics

FEWEST = 4  # seeds: with fewer the band is wider than any difference
FAR, LINEAR = 100.0, 10.0  # %: with larger differences than FAR, those beyond LINEAR are drawn on a logarithmic axis

CAPTION = (
    "Where in the noise an arm denoises held-out images better or worse than the baseline: the mean over the "
    "training seeds, and a band that holds at all noise levels together."
)

Array = NDArray[np.float64]


class Difference(NamedTuple):
    """An arm's held-out error minus the baseline's, as a share of the baseline's, by band of noise levels.

    log_snr: (K,). t: (K, 2), the first and last of each band; None if the two have different schedules. share: (K,)
    the mean over the seeds; half: (K,) the half-width of its band.
    """

    baseline: str
    arm: str
    log_snr: Array
    edges: Array
    t: Array | None
    share: Array
    half: Array

    def places(self, where: NDArray[np.bool_]) -> str:
        """Where some bands are: "t = 1 to 35 and 410 to 1000", or the same in log-SNR."""
        at = np.flatnonzero(where)
        runs = np.split(at, np.flatnonzero(np.diff(at) > 1) + 1)
        spans, unit, form = (self.edges, "log-SNR", ".1f") if self.t is None else (self.t, "t =", ".0f")
        ends = ((f"{spans[run[0], 0]:{form}}", f"{spans[run[-1], 1]:{form}}") for run in runs)
        return f"{unit} {' and '.join(low if low == high else f'{low} to {high}' for low, high in ends)}"

    def sentence(self) -> str:
        """Where the arm is better or worse, beyond the noise of the seeds."""
        parts = [
            f"{word} at {self.places(where)} (by up to {np.abs(self.share[where]).max():.1%})"
            for word, where in (("lower", self.share + self.half < 0), ("higher", self.share - self.half > 0))
            if where.any()
        ]
        what = ", ".join(parts) or "nowhere lower or higher beyond noise"
        return f"where in the noise: {self.arm}'s error on held-out images, against {self.baseline}'s, is {what}"


def differences(arms: Mapping[str, Mapping[int, Record]], confidence: float) -> list[Difference]:
    """Each arm that shares FEWEST seeds with the first against that. Runs without these errors, such as those without a
    likelihood, are left out."""
    known: dict[str, dict[int, Levels]] = {label: {} for label in arms}
    for label, arm in arms.items():
        for seed, run in arm.items():
            with suppress(UserError):
                known[label][seed] = numbers(run, "t", "steps", "log_snr", "error_test")
    baseline, *others = known
    pairs = {label: sorted(known[baseline].keys() & known[label].keys()) for label in others}
    return [
        _difference(baseline, label, [(known[baseline][seed], known[label][seed]) for seed in seeds], confidence)
        for label, seeds in pairs.items()
        if len(seeds) >= FEWEST
    ]


def _difference(baseline: str, arm: str, pairs: Sequence[tuple[Levels, Levels]], confidence: float) -> Difference:
    t, steps, log_snr = (pairs[0][0][name] for name in ("t", "steps", "log_snr"))
    ranges = [one["log_snr"] for one in sum(pairs, ())]
    inside = np.all([(log_snr >= x.min()) & (log_snr <= x.max()) for x in ranges], axis=0)
    t, steps, log_snr = t[inside], steps[inside], log_snr[inside]
    first, last = t - (steps - 1) / 2, t + (steps - 1) / 2
    bands = groups(log_snr)

    def error(run: Levels) -> Array:
        return averages(np.interp(-log_snr, -run["log_snr"], run["error_test"]), steps, bands)

    before, after = (np.array([error(run) for run in side]) for side in zip(*pairs, strict=True))
    gaps, mean = (after - before).T, before.mean(0)
    test = statistics.t_test(gaps, 0.0, 1 - (1 - confidence) / len(bands))
    same = all(len(x) == len(ranges[0]) and np.allclose(x, ranges[0]) for x in ranges)
    return Difference(
        baseline,
        arm,
        averages(log_snr, steps, bands),
        np.array([(log_snr[band].max(), log_snr[band].min()) for band in bands]),
        np.array([(first[band[0]], last[band[-1]]) for band in bands]) if same else None,
        test.mean / mean,
        (test.high - test.mean) / mean,
    )


def shown(differences: Sequence[Difference]) -> list[Block]:
    """A figure of all arms, and a sentence for each."""
    return [Figure(CAPTION, [panel(differences)], "noise_levels"), *(Note(arm.sentence()) for arm in differences)]


def panel(differences: Sequence[Difference]) -> Panel:
    """The curves of all arms, with their bands."""
    curves = {arm.arm: np.stack([arm.log_snr, 100 * arm.share, 100 * arm.half], axis=1) for arm in differences}
    baseline = differences[0].baseline
    largest = max(float(np.abs(curve[:, 1]).max()) for curve in curves.values())
    return Panel(
        "error on held-out images by noise level",
        LOG_SNR,
        f"% of the error of {baseline}",
        curves,
        {baseline: 0.0},
        points=True,
        linear=LINEAR if largest > FAR else 0.0,
    )
