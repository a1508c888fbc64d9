"""A comparison for people and programs: a table, Markdown, CSV, JSON and a picture."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tabulate import tabulate

from ddpm.base.files import atomic_path, write_json
from ddpm.compare import citation, metrics
from ddpm.compare.pairing import BUDGETS, Arm, named
from ddpm.compare.runs import grouped
from ddpm.compare.verdict import Comparison, Described, Verdict
from ddpm.pictures import plots

Rows = list[list[str]]
D = TypeVar("D", bound=Described)


def plain(titled: Iterable[tuple[str, Rows]], lines: Iterable[str]) -> str:
    """Tables under their titles, and lines below them, for a terminal."""
    blocks = [f"{title}\n{tabulate(rows, tablefmt='plain', disable_numparse=True)}" for title, rows in titled]
    return "\n\n".join([*blocks, "\n".join(lines)])


def markdown(titled: Iterable[tuple[str, Rows]], lines: Iterable[str]) -> str:
    """The same as Markdown."""
    blocks: list[str] = []
    for title, rows in titled:
        head, *body = [[_escaped(cell) for cell in row] for row in rows]
        blocks.append(f"##{'#' * bool(blocks)} {_escaped(title)}")
        blocks.append(tabulate(body, head, tablefmt="github", disable_numparse=True))
    return "\n\n".join([*blocks, listed(lines)])


def listed(lines: Iterable[str]) -> str:
    """A list in Markdown."""
    return "".join(f"- {_escaped(line)}\n" for line in lines)


def to_dict(comparison: Comparison) -> dict[str, Any]:
    """The content of verdict.json."""
    arms = []
    for arm in comparison.arms:
        named_runs = {"seeds": list(arm.runs), "runs": [run.name for run in arm.runs.values()]}
        arms.append({"label": arm.label, "values": arm.values, **named_runs, **_spent(arm)})
    verdicts = [each.to_dict() | citation.to_dict(each) for each in comparison.verdicts]
    settings = comparison.settings.model_dump(mode="json")
    return {**vars(comparison), "settings": settings, "arms": arms, "verdicts": verdicts}


def write(comparison: Comparison, folder: Path) -> list[Path]:
    """Write verdict.md, verdict.csv, verdict.json and verdict.png in ``folder``; return their paths."""
    import pandas as pd

    paths = [folder / f"verdict.{suffix}" for suffix in ("md", "csv", "json", "png")]
    with atomic_path(paths[0]) as temporary:
        page = markdown(tables(comparison), notes(comparison))
        temporary.write_text(page + citation.markdown(comparison.verdicts, comparison.metrics[0]))
    spent = {arm.label: _spent(arm) for arm in comparison.arms}
    rows = []
    for verdict in comparison.verdicts:
        row = {name: _plain(cell) for name, cell in vars(verdict).items()}
        for which, label in (("baseline", verdict.baseline), ("variant", verdict.variant)):
            row |= {f"{which}_{budget}": amount for budget, amount in spent[label].items()}
        rows.append(row)
    with atomic_path(paths[1]) as temporary:
        pd.DataFrame(rows, dtype=object).to_csv(temporary, index=False)
    write_json(paths[2], to_dict(comparison))
    draw(comparison.verdicts, paths[3])
    return paths


def _plain(cell: Any) -> Any:
    """Several values as one cell of a CSV file."""
    return " ".join("none" if part is None else str(part) for part in cell) if isinstance(cell, tuple) else cell


def draw(verdicts: Sequence[Described], path: Path) -> None:
    """The seeds' differences with their mean and interval: a panel per metric, a row per pair."""
    baselines = {verdict.baseline for verdict in verdicts}
    panels: dict[str, dict[str, Described]] = {}
    for verdict in verdicts:
        label = f"{verdict.variant} - {verdict.baseline}" if len(baselines) > 1 else verdict.variant
        panels.setdefault(f"{verdict.metric} ({verdict.direction} is better)", {})[label] = verdict
    what = "differences" if len(baselines) > 1 else f"difference from {baselines.pop()}"
    plots.gaps(path, panels, f"{what}: a dot for each training seed, a band for the practical threshold")


def tables(comparison: Comparison) -> Iterator[tuple[str, Rows]]:
    """Titles with rows of cells, the heads first: the arms, then the verdicts of each pair."""
    rows = [["variant", "seeds", *BUDGETS.values()]]
    for arm in comparison.arms:
        spent = ["?" if amount is None else f"{amount:,}" for amount in _spent(arm).values()]
        baseline = " (baseline)" * (arm is comparison.arms[0])
        rows.append([arm.label + baseline, str(len(arm.runs)), *spent])
    yield ", ".join(comparison.by) or "the same params", rows
    yield from of_pairs(comparison.verdicts, ["t p (adjusted)", "sign-flip p"], _tests)


def of_pairs(
    seen: Iterable[D], heads: Sequence[str], tests: Callable[[D], Sequence[str]]
) -> Iterator[tuple[str, Rows]]:
    """For each pair a title and a row for each metric, the heads first: both means, the difference, what was tested,
    and the verdict. ``tests``: the cells under ``heads``, of a finding that was tested."""
    for (baseline, variant), own in grouped(seen, lambda each: (each.baseline, each.variant)).items():
        rows = [["metric", baseline, variant, "difference", "interval", *heads, "verdict"]]
        for each in own:
            relative = "" if each.relative is None else f" ({each.relative:+.1%})"
            means = [each.metric, f"{each.baseline_mean:.4g}", f"{each.variant_mean:.4g}"]
            tested = ["-"] * (1 + len(heads))
            if each.low is not None:  # then the others are not None either
                tested = [f"{each.low:+.3g} to {each.high:+.3g}", *tests(each)]
            outcome = f"{each.outcome}: {each.reason}" if each.reason else each.outcome
            rows.append([*means, f"{each.difference:+.3g}{relative}", *tested, outcome])
        yield f"{variant} against {baseline}, {named(own[0].seeds)}", rows


def _tests(verdict: Verdict) -> list[str]:
    adjusted = "" if verdict.p == verdict.adjusted_p else f" ({verdict.adjusted_p:.2g})"
    return [f"{verdict.p:.2g}{adjusted}", f"{verdict.sign_flip_p:.2g}"]


def notes(comparison: Comparison) -> list[str]:
    """The headlines, the notes on the runs, and the rule of the verdicts."""
    settings, count = comparison.settings, len(comparison.verdicts)
    together = f"all {count} verdicts together, and their intervals," if count > 1 else "the verdict and its interval"
    return [
        *headlines(comparison.verdicts, comparison.metrics[0]),
        *citation.sentences(comparison.verdicts, comparison.metrics[0]),
        *representations(comparison.verdicts, comparison.metrics[0]),
        *comparison.notes,
        f"better or worse: adjusted p below and sign-flip p at most {1 - settings.confidence:.3g}, a gap above the "
        "metric's margin, and KID agreeing; equivalent: one-sided tests of both kinds exclude a gap as large",
        f"{together} hold with the chance {settings.confidence:.4g} for symmetric differences, if these seeds were "
        "chosen beforehand; where some were added after a look, less often: a study (`ddpm study`) keeps the chance",
    ]


def headlines(verdicts: Iterable[Described], metric: str) -> list[str]:
    """For that metric, a line per pair."""
    return [seen.headline for seen in verdicts if seen.metric == metric]


def representations(verdicts: Iterable[Described], metric: str) -> list[str]:
    """For each pair, what the features of each extractor say in that metric, and whether they agree; nothing if only
    one extractor has it."""
    seen = (each for each in verdicts if metrics.alike(each.metric, metric))
    lines = []
    for (_, variant), own in grouped(seen, lambda each: (each.baseline, each.variant)).items():
        if len(own) > 1:
            said = ", ".join(f"{each.said} in {each.metric}" for each in own)
            decided = {each.outcome for each in own} & {"better", "worse", "equivalent"}
            sure = all(each.outcome in decided for each in own)
            agree = "they agree" if sure and len(decided) == 1 else "they disagree: no verdict about images"
            lines.append(f"{variant}, by each extractor's features: {said}" + f": {agree}" * (sure or len(decided) > 1))
    return lines


def _spent(arm: Arm) -> dict[str, int | None]:
    """Budget -> what each run had; None if runs differ, or it is not known."""
    return {budget: spent[0] if len(spent := arm.spent(budget)) == 1 else None for budget in BUDGETS}


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
