"""The table of a verdict for a paper: a row for each arm, as CSV, or as LaTeX with booktabs."""

import math
import re
from pathlib import Path
from statistics import fmean
from typing import Any

from ddpm.base import files
from ddpm.base.errors import UserError, printable
from ddpm.referee import metrics
from ddpm.verdicts.result import Judgement

TESTED = ("difference", "low", "high", "verdict")  # of an arm from the baseline, with the interval
ARROWS = {"lower": r" $\downarrow$", "higher": r" $\uparrow$"}
ESCAPES = {mark: rf"\{mark}" for mark in "&%$#_{}"} | {mark: f"{{{mark}}}" for mark in "[*"}  # arguments of a \\
NAMES = {"\\": "backslash", "~": "asciitilde", "^": "asciicircum", "<": "less", ">": "greater", "|": "bar"}
ESCAPES |= {mark: rf"\text{name}{{}}" for mark, name in NAMES.items()}
LATEX = r"""%% needs \usepackage{booktabs,graphicx}
\begin{table}
\centering\small\setlength{\tabcolsep}{2pt}
\caption{%s Means over seeds; the difference from %s with its %s. Bold: the best mean, if its verdict is better. %s}
\begin{tabular}{l%s}
\toprule
%s \\
\midrule
%s \\
\bottomrule
\end{tabular}
\end{table}
"""


def write(judgement: Judgement, path: Path) -> Path:
    """Write the table in the format of the path's suffix, and return the path. Raises UserError without a verdict.

    It has the primary metric and each of its eyes where the runs have them, otherwise all metrics with a verdict.
    """
    of = {(one.arm, one.metric): one for one in judgement.verdicts}
    judged = [one for one in judgement.verdicts if one.metric == judgement.primary]
    if not judged:
        raise UserError(f"--table: {path}: no arm has a verdict yet")
    most = max(judged, key=lambda one: len(one.baseline_scores))
    runs = {arm.label: arm.runs for arm in judgement.arms}
    eyes = metrics.select_eyes([run.scores for arm in runs.values() for run in arm.values()], judgement.primary)
    names = [*dict.fromkeys([judgement.primary, *(eyes or (name for _, name in of))])]
    rows: list[dict[str, Any]] = [{"arm": most.baseline, "seeds": len(most.baseline_scores)}]
    rows += [{"arm": one.arm, "seeds": len(one.arm_scores)} for one in judged]
    for row, primary in zip(rows, (most, *judged), strict=True):
        for name in names:
            if (one := of.get((primary.arm, name))) is None:  # an eye: of the panel, only the score is judged
                row[name] = fmean(runs[row["arm"]][seed].scores[name] for seed in primary.seeds)
            elif row is rows[0]:
                row.update({name: one.baseline_mean} | {f"{name} {what}": None for what in TESTED})
            else:
                values = (one.arm_mean, one.difference, one.low, one.high, one.outcome)
                row.update(zip((name, *(f"{name} {what}" for what in TESTED)), values, strict=True))
    if path.suffix == ".csv":  # in which a spreadsheet would take some names for formulas
        files.write_rows(path, [row | {"arm": re.sub(r"^(?=[=+@\t\r]|-\D)", "'", row["arm"])} for row in rows])
    else:
        files.write_text(path, _latex(judgement, names, rows))
    return path


def _latex(judgement: Judgement, names: list[str], rows: list[dict[str, Any]]) -> str:
    """The primary metric with its tests, and the means in the others."""
    judged = {one.metric: one.direction for one in judgement.verdicts}
    heads, columns = ["arm", "seeds"], [[_cell(row[key]) for row in rows] for key in ("arm", "seeds")]
    for name in names:
        direction, decimals = judged.get(name) or metrics.direction(name), _decimals(rows, name)
        best = (min if direction == "lower" else max)(rows, key=lambda row: row[name])
        wanted, against = ("worse", rows[1:]) if best is rows[0] else ("better", [best])
        stands = all(row.get(f"{name} verdict") == wanted for row in against)
        heads.append(_cell(name) + ARROWS[direction])
        columns.append([_cell(row[name], stands and row is best, decimals) for row in rows])
        if name == judgement.primary:
            heads += TESTED
            columns += [[_cell(row[f"{name} {what}"], decimals=decimals) for row in rows] for what in TESTED]
    lines = map(" & ".join, zip(*columns, strict=True))
    coverage = max((one.coverage for one in judgement.verdicts), key=len)  # without a look it is empty
    news = [one.reason for one in judgement.verdicts if one.metric == judgement.primary and one.overridden]
    but = f"No verdict: {'; '.join(news)}." if news else ""
    turned = [rf"\rotatebox{{90}}{{{head}}}" for head in heads[1:]]  # upright, they are twice as wide as a page
    texts = map(_cell, (judgement.question, rows[0]["arm"], coverage or "interval", but))
    return LATEX % (*texts, "r" * (len(heads) - 1), " & ".join([heads[0], *turned]), " \\\\\n".join(lines))


def _decimals(rows: list[dict[str, Any]], name: str) -> int | None:
    """Decimals that give the narrowest interval two digits or, without one, the largest mean three; None for numbers
    that need a power of ten."""
    widths = [row[f"{name} high"] - row[f"{name} low"] for row in rows[1:] if row.get(f"{name} low") is not None]
    size = min(widths) if widths else max(abs(row[name]) for row in rows) / 10
    return max(0, 1 - math.floor(math.log10(size))) if 1e-5 < size < 1e5 else None


def _cell(value: Any, bold: bool = False, decimals: int | None = None) -> str:
    """Text as LaTeX shows it as it is, or a number as mathematics, by default with four digits; empty for None."""
    if not isinstance(value, float):
        return "".join(ESCAPES.get(mark, mark) for mark in printable("" if value is None else str(value)))
    number = f"{value:.4g}" if decimals is None else f"{value:.{decimals}f}"
    number = re.sub(r"e([+-]\d+)", lambda power: rf" \times 10^{{{int(power[1])}}}", number)
    return rf"$\mathbf{{{number}}}$" if bold else f"${number}$"
