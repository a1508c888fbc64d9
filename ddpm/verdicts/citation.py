"""A verdict as one sentence that can be pasted."""

from ddpm.base.errors import plural
from ddpm.verdicts.verdict import DECIDED, Verdict


def cite(verdict: Verdict) -> str:
    """The verdict with both means, the difference and its adjusted interval, the seeds and the setting."""
    if verdict.overridden:
        outcome = f"{verdict.reason}, so no verdict on {verdict.arm} against {verdict.baseline}"
    elif verdict.outcome == "mixed":
        is_better = (verdict.difference > 0) == (verdict.direction == "higher")
        other = "better" if is_better else "worse"
        outcome = f"{verdict.arm} against {verdict.baseline} is mixed: {verdict.reason}, {other}"
    elif verdict.outcome in DECIDED:
        link = "to" if verdict.outcome == "equivalent" else "than"
        outcome = f"{verdict.arm} is {verdict.outcome} {link} {verdict.baseline}"
    else:
        outcome = f"{verdict.arm} against {verdict.baseline} is {verdict.said}"
    interval = (
        "no interval" if verdict.low is None else f"{verdict.low:+.3g} to {verdict.high:+.3g}, {verdict.coverage}"
    )
    runs, stored = len(verdict.arm_scores), len(verdict.baseline_scores)
    unpaired = f"{plural(runs, 'run')} against {stored} stored ones"
    basis = f"means over {runs} paired training seeds" if runs == stored else unpaired
    if not verdict.seeds:
        basis = f"means over {runs} and {stored} runs, not paired by seed"
    sentence = (
        f"{outcome} in {verdict.title} ({verdict.direction} is better): {verdict.arm_mean:.4g} against "
        f"{verdict.baseline_mean:.4g}, difference {verdict.difference:+.3g} ({interval}), {basis}"
    )
    return f"{'; '.join(filter(None, (sentence, verdict.setting)))}."
