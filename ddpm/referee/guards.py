"""Facts about each score of this project's runs, reasons to forbid a verdict, and notes next to a table of verdicts.

Two arms that both score worse than a Gaussian fitted to the train images, in the mean of ``metrics.decider`` over their
runs, are too early to compare. The Gaussian is scored like samples (ddpm/scoring/yardsticks.py). A Fréchet distance has
a bias that depends on the model, KID in the same features has none (Chong & Forsyth 2020, arXiv:1911.07023), so both
have to move the same way. Copies of train images score like real images (ddpm/scoring/memorisation.py), so an arm that
copies is never the better one, and if its mean is the better one, that is the headline whatever the tests show. A
verdict that another eye contradicts, or the recall, is **mixed**: that one is worse beyond its margin where the primary
metric is better, by a one-sided t test of the seeds at AGAINST, which is not adjusted, because here a false alarm costs
less than a miss. The recall of a side that the panel sees behind a Gaussian contradicts nothing: noise spread over all
real images recalls them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from ddpm.params.config import Compare
from ddpm.referee import metrics, pairing
from ddpm.verdicts import statistics
from ddpm.verdicts.arms import Arm, Pair, name_seeds, subtract
from ddpm.verdicts.sequential import Design
from ddpm.verdicts.verdict import Early, Known, Outcome, Rules, Ruling, Verdict

COPIES = "copies train images"
AGAINST = 0.05  # the level of the test that another eye moved the other way


def rules(compare: Compare, names: Sequence[str], pairs: int, design: Design, primaries: int = 1) -> Rules:
    """How pairs of runs are judged in these metrics, the primary one first."""
    return Rules(Guards(compare, names[0]), compare.confidence, names, pairs, design, primaries)


@dataclass(frozen=True)
class Guards(Known):
    """primary: the metric that decides whether it is too early for a verdict on any."""

    compare: Compare
    primary: str

    title = staticmethod(metrics.title)
    direction = staticmethod(metrics.direction)
    setting = staticmethod(pairing.setting)
    check_distinct = staticmethod(pairing.check_distinct)

    def margin(self, metric: str, baseline: float) -> float:
        return metrics.margin(metric, baseline, self.compare)

    def is_worst(self, verdict: Verdict) -> bool:
        """Whether the metric is a share of the images, and both sides have practically none, as in a recall of 0."""
        is_share = metrics.SCORES[metrics.kind(verdict.metric)].is_share
        return is_share and max(verdict.baseline_mean, verdict.arm_mean) < verdict.margin

    def forbids(self, pair: Pair, verdict: Verdict) -> Ruling | None:
        """Too early, or useless."""
        decider = metrics.decider([run.scores for run in pair.runs], self.primary)
        gaussian = metrics.gaussian([run.scores for run in pair.runs], decider)
        before, after = (float(scores.mean()) for scores in pair.scores(decider))
        if metrics.is_early(min(before, after), gaussian):
            shown = f"{metrics.title(decider)} {before:.3g} and {after:.3g}, a Gaussian {gaussian:.3g}"
            return Ruling("too early", f"both score worse than a Gaussian fitted to the train images ({shown})")
        if metrics.is_useless(verdict.metric, verdict.arm_mean):
            return Ruling("useless", f"a uniform guess needs {metrics.UNIFORM:g} bits")
        return None

    def forbids_means(self, pair: Pair, metric: str, before: float, after: float) -> Early | None:
        """Useless, or too early by the metric itself."""
        if metrics.is_useless(metric, after):
            return "useless"
        gaussian = metrics.gaussian([run.scores for run in pair.runs], metric)
        return "too early" if metrics.is_early(min(before, after), gaussian) else None

    def doubts(self, pair: Pair, verdict: Verdict, outcome: Outcome) -> Ruling | None:
        """A winner that copies, a KID that disagrees, or another eye that sees the opposite."""
        winner, runs = (pair.arm, pair.after) if outcome == "better" else (pair.baseline, pair.before)
        spaces = sorted({space for run in runs for space in metrics.find_copies(run.scores)})
        if spaces:
            return Ruling("inconclusive", f"{winner} {COPIES} ({', '.join(spaces)})", overrides=True)
        kid = metrics.kid_of(verdict.metric)
        if kid is not None and all(kid in run.scores for run in pair.runs):
            before, after = pair.scores(kid)
            if float(subtract(before, after).mean()) * verdict.difference <= 0:
                return Ruling("inconclusive", "KID moved the other way")
        # a stored baseline's run has no partners: whoever sets a gate says by which metrics it decides
        asked = verdict.metric == self.primary and len(pair.before) == len(pair.after)
        against = self.list_against(pair, outcome) if asked else []
        return Ruling("mixed", " and ".join(against)) if against else None

    def list_against(self, pair: Pair, outcome: Outcome) -> list[str]:
        """The eyes, and the recall, that moved the other way than ``outcome`` says, with both means."""
        against, runs = [], [run.scores for run in pair.runs]
        loser = pair.before if outcome == "better" else pair.after
        is_lost = metrics.decider(runs, self.primary) == metrics.PANEL and metrics.is_early(
            fmean(run.scores[metrics.PANEL] for run in loser), metrics.gaussian(runs, metrics.PANEL)
        )
        sign, way = (-1, "worse") if outcome == "better" else (1, "better")
        for name in metrics.select_eyes(runs, self.primary):
            if is_lost and metrics.kind(name) == metrics.RECALL:
                continue
            before, after = pair.scores(name)
            contrary = np.array([sign * self.gain(name, gap) for gap in after - before])
            test = statistics.t_test(contrary, 0.0, 1 - AGAINST)
            if test.mean > self.margin(name, float(before.mean())) and float(test.p) / 2 < AGAINST:
                against.append(f"{way} in {name} ({after.mean():.3g} against {before.mean():.3g})")
        return against


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
