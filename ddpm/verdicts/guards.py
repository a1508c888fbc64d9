"""What a verdict on this project's runs takes from outside: facts about each score, and what forbids a verdict.

Two arms that both score worse than a Gaussian fitted to the train images, in the mean of the primary metric over their
runs, have learned nothing yet. The Gaussian is scored like samples (ddpm/scoring/yardsticks.py). A Fréchet distance has
a bias that depends on the model, KID in the same features has none (Chong & Forsyth 2020, arXiv:1911.07023), so both
have to move the same way. Copies of train images score like real images (ddpm/scoring/memorisation.py), so an arm that
copies is never the better one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ddpm.params.config import Compare
from ddpm.verdicts import metrics, pairing
from ddpm.verdicts.sequential import Design
from ddpm.verdicts.verdict import COPIES, Outcome, Pair, Rules, Verdict


def rules(compare: Compare, names: Sequence[str], pairs: int, design: Design, primaries: int = 1) -> Rules:
    """How pairs of runs are judged in these metrics, the primary one first."""
    return Rules(Guards(compare, names[0]), compare.confidence, names, pairs, design, primaries)


@dataclass(frozen=True)
class Guards:
    """primary: the metric that decides whether it is too early for a verdict on any."""

    compare: Compare
    primary: str

    title = staticmethod(metrics.title)
    direction = staticmethod(metrics.direction)
    setting = staticmethod(pairing.setting)

    def margin(self, metric: str, baseline: float) -> float:
        return metrics.margin(metric, baseline, self.compare)

    def is_worst(self, verdict: Verdict) -> bool:
        """Whether both sides have a share of the images, such as recall, that is as good as 0."""
        is_share = metrics.SCORES[metrics.kind(verdict.metric)].is_share
        return is_share and max(verdict.baseline_mean, verdict.arm_mean) < verdict.margin

    def forbids(self, pair: Pair[Any], verdict: Verdict) -> tuple[Outcome, str] | None:
        """Too early, or useless."""
        gaussian = metrics.gaussian([run.scores for run in pair.runs], self.primary)
        before, after = (float(scores.mean()) for scores in pair.scores(self.primary))
        if gaussian is not None and min(before, after) > gaussian:
            shown = f"{metrics.title(self.primary)} {before:.3g} and {after:.3g}, a Gaussian {gaussian:.3g}"
            worse = f"both score worse than a Gaussian fitted to the train images ({shown})"
            return "too early", f"{worse}, so they have learned nothing yet"
        if metrics.is_useless(verdict.metric, verdict.arm_mean):
            return "useless", f"a uniform guess needs {metrics.UNIFORM:g} bits"
        return None

    def doubts(self, pair: Pair[Any], verdict: Verdict, outcome: Outcome) -> str:
        """A KID that disagrees, or a winner that copies."""
        kid = metrics.kid_of(verdict.metric)
        if kid is not None and all(kid in run.scores for run in pair.runs):
            before, after = pair.scores(kid)
            if float((after - before).mean()) * verdict.difference <= 0:
                return "KID moved the other way"
        winner, runs = (pair.arm, pair.after) if outcome == "better" else (pair.baseline, pair.before)
        spaces = sorted({space for run in runs for space in metrics.find_copies(run.scores)})
        return f"{winner} {COPIES} ({', '.join(spaces)})" if spaces else ""
