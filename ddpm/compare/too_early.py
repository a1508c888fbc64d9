"""Whether two variants have learned anything that a verdict could be about.

The yardstick is a Gaussian fitted to the train images (ddpm/scoring/yardsticks.py), scored like samples. If both sides
score worse than it in the primary metric, in the mean over their runs, then neither draws what the data look like, and
a gap between them, however certain, says nothing about the models that they would become.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from ddpm.compare import metrics
from ddpm.compare.pairing import Pair
from ddpm.compare.runs import Run, some

NO_ANSWER = 3  # exit code


class Judged(Protocol):
    """What ``exit_code`` reads of a verdict."""

    @property
    def metric(self) -> str: ...
    @property
    def outcome(self) -> str: ...


def reason(pair: Pair, primary: str) -> str:
    """Why no verdict is possible yet, in words; empty if one is, or if some run has no yardstick."""
    gaussian = metrics.gaussian([run.scores for run in (*pair.before, *pair.after)], primary)
    means = [float(scores.mean()) for scores in pair.scores(primary)]
    if gaussian is None or not all(mean > gaussian for mean in means):
        return ""
    shown = f"{metrics.title(primary)} {means[0]:.3g} and {means[1]:.3g}, a Gaussian {gaussian:.3g}"
    return f"both score worse than a Gaussian fitted to the train images ({shown}), so they have learned nothing yet"


def note(runs: Sequence[Run], primary: str) -> list[str]:
    """What the yardsticks and real images score in the primary metric, or that some run has no yardstick."""
    if missing := [run.name for run in runs if f"{metrics.GAUSSIAN}.{primary}" not in run.scores]:
        which = "the runs have" if len(missing) == len(runs) else f"some runs ({some(missing)}) have"
        return [f"{which} no yardstick in {primary}: not checked whether the variants draw better than a Gaussian"]
    lines = []
    for what, (score, count) in metrics.others(runs[0].scores, primary).items() if runs else ():
        lines.append(f"{what} {score:.3g}" + (f" (N = {count:,})" if count != runs[0].params["sample.count"] else ""))
    return [f"yardsticks in {primary}: {', '.join(lines)}"] if lines else []


def exit_code(verdicts: Iterable[Judged], primary: str) -> int:
    """NO_ANSWER if it is too early for every verdict on the primary metric, otherwise 0."""
    outcomes = {each.outcome for each in verdicts if each.metric == primary}
    return NO_ANSWER if outcomes == {"too early"} else 0
