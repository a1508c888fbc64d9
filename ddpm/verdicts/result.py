"""The parts of a judgement of several arms."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ddpm.verdicts.arms import Arm
from ddpm.verdicts.curves import Curves
from ddpm.verdicts.tuning import Tried
from ddpm.verdicts.verdict import Verdict


@dataclass(frozen=True)
class Judgement:
    """The result of a comparison or a study; ``plan`` and what follows it are those of a study."""

    question: str
    primary: str
    arms: tuple[Arm, ...]  # the baseline first
    verdicts: tuple[Verdict, ...]  # by pair, the primary metric first; none for an arm without seeds
    compare: Mapping[str, Any]  # the confidence, and all else that decides when a difference is real, for JSON
    notes: tuple[str, ...]
    fingerprint: str = ""  # of all scores
    plan: str = ""  # its hash
    open: tuple[str, ...] = ()  # the arms that need more seeds, including the baseline
    next_look: int | None = None  # in seeds; None if the study is over
    curves: Curves | None = None  # the primary metric over training, if the runs have snapshots
    tuning: tuple[Tried, ...] = ()  # the tries that chose the arms' values


def describe_rule(confidence: float) -> str:
    """The promise of a table that was read once, for its notes."""
    return (
        f"all verdicts and intervals hold together with probability {confidence:.4g}, if differences "
        "are normal and these seeds were chosen beforehand; less often if you add seeds after a look: use a study "
        "(`ddpm study`) for that"
    )
