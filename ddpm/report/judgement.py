"""The result of a comparison or a study in blocks: the answer and its picture, then tables, curves and notes."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from ddpm.base.errors import plural
from ddpm.pictures import plots
from ddpm.pictures.plots import Panel
from ddpm.referee import guards, metrics, pairing
from ddpm.referee.pairing import BUDGETS
from ddpm.report.blocks import Block, Chapter, Figure, Note, Table
from ddpm.runs.alike import group_by
from ddpm.verdicts import citation, tuning
from ddpm.verdicts.arms import name_seeds
from ddpm.verdicts.curves import Curves
from ddpm.verdicts.result import Judgement
from ddpm.verdicts.tuning import Tried, name_values
from ddpm.verdicts.verdict import Verdict

FIELDS = ("question", "primary", "notes", "fingerprint", "plan", "open", "next_look")  # of a judgement, as they are


def chapters(judgement: Judgement, samples: Sequence[Block]) -> list[Chapter]:
    """The answer first. samples: a picture of each arm, of images that were drawn from the same noise."""
    parts: dict[str, Sequence[Block]] = {
        "": [*map(Note, answers(judgement)), *_gaps(judgement.verdicts)],
        "Samples": samples,
        "Verdicts": [_arms(judgement), *_pairs(judgement.verdicts)],
        "Eyes": _eyes(judgement),
        "By budget": _curves(judgement.curves, judgement.compare["confidence"]) if judgement.curves else [],
        "Tuning": [_tuning(judgement.tuning, judgement.primary)] if judgement.tuning else [],
        "Notes": [*map(Note, notes(judgement))],
    }
    return [Chapter(title, blocks) for title, blocks in parts.items() if blocks]


def answers(judgement: Judgement) -> list[str]:
    """A line for each arm, and one each about what they were tuned on and what comes next."""
    primary, tried = judgement.primary, judgement.tuning
    lines = [pair.headline for pair in judgement.verdicts if pair.metric == primary]
    if judgement.open and (early := guards.early(judgement.arms, primary)):
        lines.insert(0, early)
    if tried:
        values = "; ".join(f"{row.arm} {_values(row.values)}" for row in tried if row.chosen) or "none yet"
        grid = f"{len(tuning.points(tried))} for {' and '.join(tried[0].values)}"
        chosen = f"each arm at the value that {len(tried[0].scores)} seeds chose from {grid}: {values}"
        lines.append(f"{chosen}; the verdict uses other seeds")
    if judgement.next_look:
        lines.append(f"next look: {judgement.next_look} seeds of {', '.join(judgement.open)}")
    return lines


def notes(judgement: Judgement) -> Iterator[str]:
    """The sentences to cite, and what to be careful about."""
    yield from (citation.cite(pair) for pair in judgement.verdicts if pair.metric == judgement.primary)
    yield from _careful(judgement.tuning, judgement.primary)
    yield from judgement.notes


def to_dict(judgement: Judgement) -> dict[str, Any]:
    """Render the judgement as a mapping for JSON."""
    arms = [
        {
            "label": arm.label,
            "values": arm.values,
            "seeds": [*arm.runs],
            "runs": [run.name for run in arm.runs.values()],
        }
        | {budget: pairing.cost(arm, budget) for budget in BUDGETS}
        for arm in judgement.arms
    ]
    primary = (pair for pair in judgement.verdicts if pair.metric == judgement.primary)
    return {name: getattr(judgement, name) for name in FIELDS} | {
        "compare": {**judgement.compare},
        "arms": arms,
        "verdicts": [pair.to_dict() for pair in judgement.verdicts],
        "citations": {pair.arm: citation.cite(pair) for pair in primary},
        "curves": _plain(judgement.curves),
        "tuning": _plain(judgement.tuning),
    }


def _plain(value: Any) -> Any:
    """Named tuples as mappings, and None for NaN and infinity, which JSON does not have."""
    if isinstance(value, tuple):
        fields = value._asdict() if hasattr(value, "_asdict") else None
        return {key: _plain(part) for key, part in fields.items()} if fields else [*map(_plain, value)]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _gaps(verdicts: Sequence[Verdict]) -> Iterator[Block]:
    """The seeds' differences with their mean and interval: a panel for the primary metric, which is the first, and for
    each that has decided something; a row per arm."""
    decided = {pair.metric for pair in verdicts if pair.metric == verdicts[0].metric or pair.outcome in plots.OUTCOMES}
    shown = [pair for pair in verdicts if pair.metric in decided]
    if panels := group_by(shown, lambda pair: f"{pair.metric} ({pair.direction} is better)"):
        caption = f"difference from {verdicts[0].baseline}: a dot for each training seed"
        if any(pair.margin for pair in shown):
            caption += ", a band for the practical threshold"
        yield Figure(caption, "verdict", partial(plots.gaps, panels=panels, title=caption))


def _arms(judgement: Judgement) -> Table:
    rows = []
    budgets = [budget for budget in BUDGETS if any(pairing.facts(arm, budget) for arm in judgement.arms)]
    for arm in judgement.arms:
        costs = ["unknown" if (cost := pairing.cost(arm, budget)) is None else f"{cost:,}" for budget in budgets]
        label = f"{arm.label} (baseline)" if arm is judgement.arms[0] else arm.label
        rows.append([label, str(len(arm.runs)), *costs])
    return Table(["arm", "seeds", *(BUDGETS[budget] for budget in budgets)], rows)


def _eyes(judgement: Judgement) -> list[Block]:
    """The means of each arm in every eye, where the runs have a panel."""
    runs = {arm.label: [run.scores for run in arm.runs.values()] for arm in judgement.arms if arm.runs}
    names = metrics.list_panel([scores for each in runs.values() for scores in each])
    rows = [[arm, *(f"{mean:.3g}" for mean in metrics.means(each, names).values())] for arm, each in runs.items()]
    title = (
        "means over the seeds; in the panel 0 is held-out real images, and 1 a Gaussian of the train images, per class"
    )
    return [Table(["arm", *names], rows, title)] if names else []


def _pairs(verdicts: Iterable[Verdict]) -> Iterator[Table]:
    """For each pair a row for each metric: both means, the difference, the seed that speaks most against it, what was
    tested, and the verdict."""
    for (baseline, arm), of_pair in group_by(verdicts, lambda pair: (pair.baseline, pair.arm)).items():
        rows = []
        for pair in of_pair:
            relative = "" if pair.relative is None else f" ({pair.relative:+.1%})"
            tested = ["-", "-"]
            if pair.low is not None:  # then ``high`` is not None either
                tested = [_span(pair.low, pair.high), "-" if pair.p is None else f"{pair.p:.2g}"]
            means = (f"{pair.baseline_mean:.4g}", f"{pair.arm_mean:.4g}", f"{pair.difference:+.3g}{relative}")
            worst = "-" if pair.worst is None else f"{pair.worst:+.3g}"
            rows.append([pair.metric, *means, worst, *tested, pair.outcome, pair.reason])
        heads = ["metric", baseline, arm, "difference", "worst seed", "interval", "p", "verdict", "why"]
        rate, seeds = of_pair[0].collapse_rate, of_pair[0].seeds
        title = f"{arm} against {baseline}, {name_seeds(seeds) if seeds else 'not paired by seed'}"
        if rate is not None:
            title += f", so up to {rate:.0%} of seeds (at 95%) may be worse than the worst"
        yield Table(heads, rows, title, (0, 7, 8))


def _curves(curves: Curves, confidence: float) -> list[Block]:
    """Mean scores over images seen, and the differences from the baseline with their bands: a picture and a table."""
    metric, baseline = curves.metric, curves.baseline
    budgets = sorted({at for arm in curves.learned for at in arm.images})
    means = {arm.arm: np.array([arm.images, arm.means]).T for arm in curves.learned}
    gaps, rows = {}, []
    for arm in curves.against:
        gaps[arm.arm] = np.array([(p.images, p.difference, p.low, p.high) for p in arm.points], float)
        cells = {p.images: f"{p.difference:+.3g} ({_span(p.low, p.high)}) {p.outcome}" for p in arm.points}
        rows.append([f"{arm.arm}, {plural(len(arm.seeds), 'seed')}", *(cells.get(at, "-") for at in budgets)])
    titles = f"mean over seeds ({metrics.direction(metric)} is better)", f"difference from {baseline}, with its band"
    panels = [
        Panel(titles[0], "images seen", metric, means, log="x", ticks=budgets),
        Panel(titles[1], "images seen", metric, gaps, {"no difference": 0.0}, log="x", ticks=budgets),
    ]
    caption = "the score over training, and each difference from the baseline"
    title = (
        f"{metric} minus that of {baseline} by images seen; the bands hold at all budgets and looks together, and the "
        f"chance that they or the verdict, which is about the end alone, are false is up to {2 * (1 - confidence):.2g}"
    )
    return [
        Figure(caption, "curve", partial(plots.lines, panels=panels)),
        Table(["arm", *(f"{at:,}" for at in budgets)], rows, title, range(len(budgets) + 1)),
    ]


def _tuning(tried: tuple[Tried, ...], metric: str) -> Table:
    """A row for each arm and a column for each point, with the interval of how much worse it is than the one chosen."""
    points = tuning.points(tried)
    rows = [[arm, *map(_mean, of_arm)] for arm, of_arm in group_by(tried, lambda row: row.arm).items()]
    signs = "* chosen; how much worse than that, as an interval; ? possibly the best"
    title = f"{metric} by {' and '.join(points[0])}, means of {len(tried[0].scores)} tuning seeds ({signs})"
    return Table(["arm", *map(_values, points)], rows, title)


def _careful(tried: tuple[Tried, ...], metric: str) -> Iterator[str]:
    """No value that works, or the best at an edge of the grid."""
    for arm, of_arm in group_by(tried, lambda row: row.arm).items():
        best = next((row for row in of_arm if row.chosen), None)
        if best is None:
            yield f"{arm}: left out: it has no {metric} at any of the values tried"
            continue
        if odd := [name_values(row.values) for row in of_arm if not math.isfinite(row.mean)]:
            yield f"{arm}: training diverged at {'; '.join(odd)}: `ddpm study audit` repeats that first"
        for key, value in best.values.items():
            values = [row.values[key] for row in of_arm]
            if {*map(type, values)} <= {int, float} and value in (min(values), max(values)):
                edge = "largest" if value == max(values) else "smallest"
                yield f"{arm}: chosen at {key} {value}, the {edge} tried: the grid may be too small"


def _mean(row: Tried) -> str:
    if not math.isfinite(row.mean):
        return "none"
    if row.chosen:
        return f"{row.mean:.4g}*"
    return f"{row.mean:.4g} ({_span(*row.behind)})" + ("?" if row.possible else "")


def _values(values: Mapping[str, Any]) -> str:
    return ", ".join(map(str, values.values()))


def _span(low: float | None, high: float | None) -> str:
    return "-" if low is None else f"{low:+.3g} to {high:+.3g}"
