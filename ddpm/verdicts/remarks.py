"""What stands below a table of verdicts: skewed differences, what pairing gained, yardsticks, other features."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ddpm.runs.alike import some
from ddpm.runs.record import Record
from ddpm.verdicts import metrics, pairing, statistics
from ddpm.verdicts.pairing import Arm
from ddpm.verdicts.verdict import COPIES, DECIDED, Verdict

SKEWED = 0.01  # the share of normal samples that are as skewed, from which a verdict has a note


def details(verdicts: Sequence[Verdict], primary: str) -> Iterable[str]:
    """Which verdicts rest on skewed differences, and what pairing by seed gained in the primary metric."""
    skewed = []
    for verdict in verdicts:
        skewness, share = statistics.skewness_p(np.array(verdict.differences))
        if verdict.outcome in DECIDED and share < SKEWED:
            skewed.append(f"{verdict.arm} in {verdict.metric} ({skewness:+.1f} over {len(verdict.seeds)} seeds)")
        if verdict.metric == primary and verdict.pairing is not None:
            yield f"pairing by seed left {verdict.pairing:.0%} of the variance of {verdict.arm} - {verdict.baseline}"
    if skewed:
        yield (
            f"skewed differences, as fewer than {SKEWED:.0%} of normal samples are: {', '.join(skewed)}: the error "
            "rate is that of symmetric ones"
        )


def copies(arms: Iterable[Arm]) -> list[str]:
    """Which arms copy train images, in which spaces and with which seeds."""
    lines = []
    for arm in arms:
        copying = {seed: spaces for seed, run in arm.runs.items() if (spaces := metrics.copied(run.scores))}
        if copying:
            shown = ", ".join(sorted(set().union(*copying.values())))
            lines.append(f"{arm.label} {COPIES} ({shown}) with {pairing.named(copying)}")
    return lines


def yardsticks(records: Sequence[Record], primary: str) -> list[str]:
    """What the yardsticks and real images score in the primary metric, or that some run has no yardstick."""
    if missing := [run.name for run in records if f"{metrics.GAUSSIAN}.{primary}" not in run.scores]:
        which = "the runs have" if len(missing) == len(records) else f"some runs ({some(missing)}) have"
        return [f"{which} no yardstick in {primary}: not checked whether the arms draw better than a Gaussian"]
    lines = []
    for what, (score, count) in metrics.others(records[0].scores, primary).items() if records else ():
        samples = records[0].fingerprint.comparable["samples"]
        lines.append(f"{what} {score:.3g}" + (f" (N = {count:,})" if count != samples else ""))
    return [f"yardsticks in {primary}: {', '.join(lines)}"] if lines else []


def representations(verdicts: Iterable[Verdict], primary: str) -> list[str]:
    """For each pair, what the features of each extractor say in that metric, and whether they agree; nothing if only
    one extractor has it."""
    lines = []
    by_pair: dict[tuple[str, str], list[Verdict]] = {}
    for verdict in verdicts:
        alike = metrics.is_headline(verdict.metric) and metrics.is_headline(
            primary
        )  # the Fréchet distance has two names
        if alike or metrics.kind(verdict.metric) == metrics.kind(primary):
            by_pair.setdefault((verdict.baseline, verdict.arm), []).append(verdict)
    for (_, arm), of_pair in by_pair.items():
        if len(of_pair) > 1:
            said = ", ".join(f"{verdict.said} in {verdict.metric}" for verdict in of_pair)
            decided = {verdict.outcome for verdict in of_pair} & set(DECIDED)
            sure = all(verdict.outcome in decided for verdict in of_pair)
            agree = "they agree" if sure and len(decided) == 1 else "they disagree: no verdict about images"
            lines.append(f"{arm}, by each extractor's features: {said}" + f": {agree}" * (sure or len(decided) > 1))
    return lines
