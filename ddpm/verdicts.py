"""A comparison as people and programs read it: a table, Markdown, CSV, JSON and a picture."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from ddpm import plots
from ddpm.comparison import Arm, Comparison, Verdict
from ddpm.files import atomic_path, write_json
from ddpm.pairing import BUDGETS

ARMS = ("variant", "seeds", *BUDGETS.values())


def table(comparison: Comparison) -> str:
    """For a terminal."""
    blocks = ["\n".join([_title(comparison), *_aligned([ARMS, *_arms(comparison)])])]
    for title, verdicts in _by_pair(comparison):
        blocks.append("\n".join([title, *_aligned([_columns(comparison, verdicts[0]), *map(_cells, verdicts)])]))
    return "\n\n".join([*blocks, "\n".join(_foot(comparison))])


def markdown(comparison: Comparison) -> str:
    blocks = [f"## {_escaped(_title(comparison))}", _piped([ARMS, *_arms(comparison)])]
    for title, verdicts in _by_pair(comparison):
        blocks += [f"### {_escaped(title)}", _piped([_columns(comparison, verdicts[0]), *map(_cells, verdicts)])]
    return "\n\n".join([*blocks, "\n".join(f"- {_escaped(line)}" for line in _foot(comparison))]) + "\n"


def write(comparison: Comparison, folder: Path) -> list[Path]:
    """verdict.md, verdict.csv, verdict.json and verdict.png in ``folder``."""
    paths = [folder / f"verdict.{suffix}" for suffix in ("md", "csv", "json", "png")]
    with atomic_path(paths[0]) as temporary:
        temporary.write_text(markdown(comparison))
    _write_csv(comparison, paths[1])
    write_json(paths[2], asdict(comparison))
    draw(comparison, paths[3])
    return paths


def draw(comparison: Comparison, path: Path) -> None:
    """The seeds' differences with their mean and interval, a panel for each metric, a row for each pair."""
    several = len({verdict.baseline for verdict in comparison.verdicts}) > 1
    panels = {
        f"{metric} ({arrow(metric_verdicts[0])})": [
            plots.Gap(
                label=f"{verdict.variant} - {verdict.baseline}" if several else verdict.variant,
                differences=verdict.differences,
                mean=verdict.difference,
                interval=None if verdict.low is None or verdict.high is None else (verdict.low, verdict.high),
                margin=verdict.margin,
                outcome=verdict.outcome,
            )
            for verdict in metric_verdicts
        ]
        for metric in comparison.metrics
        if (metric_verdicts := [verdict for verdict in comparison.verdicts if verdict.metric == metric])
    }
    what = "differences" if several else f"difference from {comparison.arms[0].label}"
    plots.gaps(path, panels, f"{what}: a dot for each training seed, a band for the practical threshold")


def arrow(verdict: Verdict) -> str:
    return f"{verdict.direction} is better"


def _title(comparison: Comparison) -> str:
    return ", ".join(comparison.by) or "the same params"


def _by_pair(comparison: Comparison) -> Iterable[tuple[str, list[Verdict]]]:
    pairs: dict[tuple[str, str], list[Verdict]] = {}
    for verdict in comparison.verdicts:
        pairs.setdefault((verdict.baseline, verdict.variant), []).append(verdict)
    for (baseline, variant), verdicts in pairs.items():
        seeds = verdicts[0].seeds
        yield f"{variant} against {baseline}, seed{'s' * (len(seeds) > 1)} {' '.join(map(str, seeds))}", verdicts


def _columns(comparison: Comparison, first: Verdict) -> tuple[str, ...]:
    interval = f"{comparison.confidence:.4g} interval"
    return ("metric", first.baseline, first.variant, "difference", interval, "t p (Holm)", "sign-flip p", "verdict")


def _arms(comparison: Comparison) -> list[tuple[str, ...]]:
    return [
        (
            arm.label + " (baseline)" * (arm is comparison.arms[0]),
            str(len(arm.seeds)),
            *(_count(getattr(arm, budget)) for budget in BUDGETS),
        )
        for arm in comparison.arms
    ]


def _cells(verdict: Verdict) -> tuple[str, ...]:
    relative = "" if verdict.relative is None else f" ({verdict.relative:+.1%})"
    interval = "-" if verdict.low is None or verdict.high is None else f"{verdict.low:+.3g} to {verdict.high:+.3g}"
    return (
        verdict.metric,
        f"{verdict.baseline_mean:.4g}",
        f"{verdict.variant_mean:.4g}",
        f"{verdict.difference:+.3g}{relative}",
        interval,
        _p(verdict.p) if verdict.p == verdict.holm_p else f"{_p(verdict.p)} ({_p(verdict.holm_p)})",
        _p(verdict.sign_flip_p),
        f"{verdict.outcome}: {verdict.reason}" if verdict.reason else verdict.outcome,
    )


def _foot(comparison: Comparison) -> list[str]:
    return [
        *comparison.notes,
        f"better or worse: Holm's p below and sign-flip p at most {1 - comparison.confidence:.3g}, a gap above "
        f"{comparison.threshold:.3g} of the baseline's mean, and KID agreeing; equivalent: two one-sided tests "
        "exclude a gap as large",
    ]


def _write_csv(comparison: Comparison, path: Path) -> None:
    """A row for each pair and metric. Several values in a cell have a space between them."""
    arms = {arm.label: arm for arm in comparison.arms}
    rows = [
        {name: _flat(value) for name, value in asdict(verdict).items()}
        | _budgets("baseline", arms[verdict.baseline])
        | _budgets("variant", arms[verdict.variant])
        for verdict in comparison.verdicts
    ]
    with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _budgets(side: str, arm: Arm) -> dict[str, int | None]:
    return {f"{side}_{budget}": getattr(arm, budget) for budget in BUDGETS}


def _flat(value: object) -> object:
    return " ".join(map(str, value)) if isinstance(value, tuple) else value


def _count(value: int | None) -> str:
    return "?" if value is None else f"{value:,}"


def _p(value: float | None) -> str:
    return "-" if value is None else f"{value:.2g}"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _piped(rows: Sequence[Sequence[str]]) -> str:
    head, *body = ([_escaped(cell) for cell in row] for row in rows)
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *body])


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
