"""Where in the noise one variant denoises better than another: their errors on held-out images, paired by seed.

The error is that of metrics/excess.csv, the same unit for every target, at the same log-SNR: with another schedule, t
would be another noise level. The bands over the seeds hold at all noise levels together (Bonferroni).
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ddpm.compare import excess, statistics
from ddpm.compare.runs import Run
from ddpm.pictures import plots

FILE = "noise_levels.png"
FEWEST = 4  # seeds for a band: with fewer it is wider than any difference
FAR, LINEAR = 100.0, 10.0  # %: with larger differences than FAR, those beyond LINEAR are drawn on a logarithmic axis

Array = NDArray[np.float64]
Columns = NDArray[np.float64]  # (rows, 4): t, steps, log_snr, error_test


class Difference(NamedTuple):
    """A variant's held-out error minus the baseline's, as a share of the baseline's, by band of noise levels.

    log_snr: (K,). t: (K, 2), the first and last of each band; None if the two have different schedules. share: (K,)
    the mean over the seeds; half: (K,) the half-width of its band, None with fewer than FEWEST seeds.
    """

    baseline: str
    variant: str
    seeds: tuple[int, ...]
    log_snr: Array
    edges: Array
    t: Array | None
    share: Array
    half: Array | None

    def places(self, chosen: NDArray[np.bool_]) -> str:
        """Where the chosen bands are: "t = 1 to 35 and 410 to 1000", or the same in log-SNR."""
        runs = np.split(np.flatnonzero(chosen), np.flatnonzero(np.diff(np.flatnonzero(chosen)) > 1) + 1)
        spans, unit, form = (self.edges, "log-SNR", ".1f") if self.t is None else (self.t, "t =", ".0f")
        ends = ((f"{spans[run[0], 0]:{form}}", f"{spans[run[-1], 1]:{form}}") for run in runs)
        return f"{unit} {' and '.join(low if low == high else f'{low} to {high}' for low, high in ends)}"


def differences(arms: Mapping[str, Mapping[int, Run]], confidence: float) -> list[Difference]:
    """Each variant against the first. Runs that have no metrics/excess.csv at hand are left out."""
    known = {
        label: {seed: found for seed, run in arm.items() if (found := _columns(run.excess)) is not None}
        for label, arm in arms.items()
    }
    baseline, *variants = known
    pairs = {label: sorted(known[baseline].keys() & known[label].keys()) for label in variants}
    return [
        _difference(baseline, label, seeds, [(known[baseline][seed], known[label][seed]) for seed in seeds], confidence)
        for label, seeds in pairs.items()
        if seeds
    ]


def _columns(text: bytes) -> Columns | None:
    """None for a file without these numbers, such as that of an experiment without a likelihood."""
    import pandas as pd

    try:
        found = pd.read_csv(io.BytesIO(text))[[*excess.PLACED, "error_test"]].to_numpy(float)
    except (KeyError, ValueError):
        return None
    return found[np.argsort(found[:, 0])] if len(found) > 1 and np.isfinite(found).all() else None


def _difference(
    baseline: str, variant: str, seeds: Sequence[int], pairs: Sequence[tuple[Columns, Columns]], confidence: float
) -> Difference:
    t, steps, log_snr, _ = pairs[0][0].T
    inside = np.all([(log_snr >= one[:, 2].min()) & (log_snr <= one[:, 2].max()) for one in sum(pairs, ())], axis=0)
    t, steps, log_snr = t[inside], steps[inside], log_snr[inside]
    first, last = t - (steps - 1) / 2, t + (steps - 1) / 2
    bands = excess.groups(log_snr)
    before, after = (
        np.array([excess.averages(np.interp(-log_snr, -one[:, 2], one[:, 3]), steps, bands) for one in side])
        for side in zip(*pairs, strict=True)
    )
    gaps, mean = (after - before).T, before.mean(0)
    half = None
    if len(seeds) >= FEWEST:
        found = statistics.t_test(gaps, 0.0, 1 - (1 - confidence) / len(bands))
        half = (found.high - found.mean) / mean
    same = all(len(one) == len(other) and np.allclose(one[:, 2], other[:, 2]) for one, other in pairs)
    return Difference(
        baseline,
        variant,
        tuple(seeds),
        excess.averages(log_snr, steps, bands),
        np.array([(log_snr[band].max(), log_snr[band].min()) for band in bands]),
        np.array([(first[band[0]], last[band[-1]]) for band in bands]) if same else None,
        gaps.mean(1) / mean,
        half,
    )


def lines(found: Sequence[Difference]) -> Iterator[str]:
    """A line for each variant, with at least FEWEST seeds."""
    for each in found:
        if each.half is None:
            continue
        lower, higher = each.share + each.half < 0, each.share - each.half > 0
        said = [
            f"{word} at {each.places(chosen)} (by up to {np.abs(each.share[chosen]).max():.1%})"
            for word, chosen in (("lower", lower), ("higher", higher))
            if chosen.any()
        ]
        what = ", ".join(said) or "nowhere lower or higher beyond noise"
        yield f"where in the noise: {each.variant}'s error on held-out images, against {each.baseline}'s, is {what}"


def panel(found: Sequence[Difference]) -> plots.Panel:
    curves = {}
    for each in found:
        columns = [each.log_snr, 100 * each.share, *(() if each.half is None else (100 * each.half,))]
        curves[each.variant] = np.stack(columns, axis=1)
    baseline = found[0].baseline
    largest = max(float(np.abs(curve[:, 1]).max()) for curve in curves.values())
    return plots.Panel(
        "error on held-out images by noise level",
        excess.LOG_SNR,
        f"% of the error of {baseline}",
        curves,
        {baseline: 0.0},
        points=True,
        linear=LINEAR if largest > FAR else 0.0,
    )


def draw(found: Sequence[Difference], folder: Path) -> list[Path]:
    """Write FILE in the folder, if there is something to draw; return its path."""
    if not found:
        return []
    plots.lines(folder / FILE, [panel(found)])
    return [folder / FILE]
