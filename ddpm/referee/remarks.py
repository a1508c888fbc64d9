"""Notes next to a table of verdicts: copies, yardsticks, arms that have learned nothing yet."""

from collections.abc import Iterable
from statistics import fmean

from ddpm.referee import metrics
from ddpm.referee.guards import COPIES
from ddpm.verdicts.arms import Arm, name_seeds


def copies(arms: Iterable[Arm]) -> list[str]:
    """A note for each arm that copies train images, with the spaces and the seeds."""
    lines = []
    for arm in arms:
        copying = {seed: spaces for seed, run in arm.runs.items() if (spaces := metrics.find_copies(run.scores))}
        if copying:
            shown = ", ".join(sorted(set().union(*copying.values())))
            lines.append(f"{arm.label} {COPIES} ({shown}) with {name_seeds(copying)}")
    return lines


def early(arms: Iterable[Arm], primary: str) -> str:
    """A note if all arms are worse than a Gaussian so far, as soon as two of them have a run; otherwise empty."""
    scored = [runs for arm in arms if (runs := [run.scores for run in arm.runs.values() if primary in run.scores])]
    every = [scores for runs in scored for scores in runs]
    decider = metrics.decider(every, primary)
    gaussian = metrics.gaussian(every, decider)
    if len(scored) < 2 or gaussian is None or any(fmean(one[decider] for one in runs) <= gaussian for runs in scored):
        return ""
    arms_are = "both arms are" if len(scored) == 2 else f"all {len(scored)} arms are"
    return f"{arms_are} worse than a Gaussian ({gaussian:.3g}) so far: train for longer"


def yardsticks(arms: Iterable[Arm], primary: str) -> list[str]:
    """The scores of the yardsticks and of real images in the primary metric, or a note that a run has no yardstick."""
    records = [run for arm in arms for run in arm.runs.values()]
    if primary == metrics.PANEL:
        return ["the panel's scale: 0 is held-out real images, 1 is draws of a Gaussian of the train images, per class"]
    if missing := [run.name for run in records if f"{metrics.GAUSSIAN}.{primary}" not in run.scores]:
        lack = "has" if len(missing) == 1 else "have"
        which = f"{len(missing)} of {len(records)} runs {lack} no yardstick in {primary}"
        return [f"{which}: it is unknown whether the arms are better than a Gaussian"]
    lines = []
    for what, (score, count) in metrics.others(records[0].scores, primary).items() if records else ():
        samples = records[0].fingerprint.comparable["samples"]
        lines.append(f"{what} {score:.3g}" + (f" (N = {count:,})" if count != samples else ""))
    return [f"yardsticks in {primary}: {', '.join(lines)}"] if lines else []
