"""Trials, and the table that they add up to."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ddpm.base.files import atomic_path, write_json


@dataclass(frozen=True)
class Trial:
    """One fault. lost: what was lost, changed or left behind, in words; recovery: seconds until the same command had
    repaired it; cost: seconds that a failed store, or a dead rank, kept others waiting. None: not measured. by_hand:
    what a person had to do first, according to `ddpm check`."""

    family: str
    fault: str
    where: str
    lost: tuple[str, ...] = ()
    recovery: float | None = None
    cost: float | None = None
    by_hand: str = ""


def rows(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """A row for each kind of fault: how many were tried, how many lost anything, how long recovery took."""
    kinds = dict.fromkeys((trial.family, trial.fault) for trial in trials)
    found = []
    for family, fault in kinds:
        of_kind = [trial for trial in trials if (trial.family, trial.fault) == (family, fault)]
        recovery = [trial.recovery for trial in of_kind if trial.recovery is not None]
        cost = [trial.cost for trial in of_kind if trial.cost is not None]
        found.append(
            {
                "family": family,
                "fault": fault,
                "tried": len(of_kind),
                "lost": sum(bool(trial.lost) for trial in of_kind),
                "by_hand": sum(bool(trial.by_hand) for trial in of_kind),
                "recovery_median": statistics.median(recovery) if recovery else None,
                "recovery_max": max(recovery) if recovery else None,
                "cost_max": max(cost) if cost else None,
                "where": sorted({trial.where for trial in of_kind}),
            }
        )
    return found


def markdown(trials: Sequence[Trial]) -> str:
    lines = [
        "| what | fault | where | tried | lost anything | fixed by hand | recovery, median | longest "
        "| kept waiting, longest |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows(trials):
        cells = [row["family"], row["fault"], ", ".join(row["where"]), row["tried"], row["lost"], row["by_hand"]]
        cells += [_seconds(row[key]) for key in ("recovery_median", "recovery_max", "cost_max")]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    tried, lost = len(trials), [trial for trial in trials if trial.lost]
    by_hand = Counter(trial.by_hand for trial in trials if trial.by_hand)
    lines += ["", f"{tried} faults, {len(lost)} lost anything."]
    lines += [f"- {times} times by hand: {what}" for what, times in by_hand.items()]
    lines += [f"- {trial.family}, {trial.fault}, {trial.where}: {'; '.join(trial.lost)}" for trial in lost]
    return "\n".join(lines)


def write(folder: Path, about: dict[str, Any], trials: Sequence[Trial]) -> None:
    """Write ``faults.json`` and ``faults.md`` after every trial, so that results survive a crash of the harness."""
    write_json(folder / "faults.json", {"about": about, "rows": rows(trials), "trials": [asdict(t) for t in trials]})
    with atomic_path(folder / "faults.md") as temporary:
        facts = ", ".join(f"{name} {value}" for name, value in about.items())
        temporary.write_text(f"{facts}\n\n{markdown(trials)}\n")


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} s"
