"""What a comparison or a study comes to, in blocks: the answer and its picture, then tables, curves and notes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby, pairwise
from typing import Any

import numpy as np

from ddpm.pictures import plots
from ddpm.pictures.plots import Panel
from ddpm.report import noise_levels
from ddpm.report.blocks import Block, Chapter, Figure, Note, Table
from ddpm.runs.alike import grouped
from ddpm.verdicts import citation, metrics, pairing, remarks, tuning
from ddpm.verdicts.comparison import Judgement
from ddpm.verdicts.curves import Against, Curves
from ddpm.verdicts.pairing import BUDGETS
from ddpm.verdicts.tuning import Tried, named
from ddpm.verdicts.verdict import Verdict

CHOSEN, POSSIBLE = "*", "?"
HEADS = ("metric", "baseline", "arm", "difference", "interval", "p", "verdict", "why")


def chapters(judgement: Judgement, samples: Sequence[Block]) -> list[Chapter]:
    """The answer first. samples: a picture of each arm, of images that were drawn from the same noise."""
    runs = {arm.label: arm.runs for arm in judgement.arms}
    levels = noise_levels.differences(runs, judgement.compare.confidence)
    return [
        Chapter("", [*map(Note, answers(judgement)), *_gaps(judgement)]),
        *([Chapter("Samples", list(samples))] if samples else []),
        Chapter("Verdicts", [_arms(judgement), *_pairs(judgement.verdicts)]),
        *([Chapter("By budget", list(_curves(judgement.curves)))] if judgement.curves else []),
        *([Chapter("Tuning", [_tuning(judgement.tuning, judgement.primary)])] if judgement.tuning else []),
        *([Chapter("By noise level", noise_levels.shown(levels))] if levels else []),
        Chapter("Notes", [*map(Note, notes(judgement))]),
    ]


def answers(judgement: Judgement) -> list[str]:
    """A line for each arm, and one each about what they were tuned on and what comes next."""
    primary, tried = judgement.primary, judgement.tuning
    lines = [pair.headline for pair in judgement.verdicts if pair.metric == primary]
    lines += remarks.representations(judgement.verdicts, primary)
    if tried:
        values = "; ".join(f"{row.arm} {_values(row.values)}" for row in tried if row.chosen)
        possible = "; ".join(f"{row.arm} {_values(row.values)}" for row in tried if row.possible and not row.chosen)
        keys, count = " and ".join(tried[0].values), len(tuning.points(tried))
        lines += [
            f"each arm at the value that {_seeds(tried, 'seed')} chose from {count} for {keys}: {values or 'none yet'}"
            "; the verdict uses other seeds",
            f"these seeds do not exclude as an arm's best: {possible}"
            if possible
            else "these seeds exclude all other values as an arm's best",
        ]
    if judgement.curves:
        baseline = judgement.arms[0].label
        lines += [f"by budget, {arm.arm}: {crossing(arm, baseline)}" for arm in judgement.curves.against]
    if judgement.next_look:
        lines.append(f"next look: {judgement.next_look} seeds of {', '.join(judgement.open)}")
    return lines


def notes(judgement: Judgement) -> Iterator[str]:
    """The sentences to cite, and what to be careful about."""
    yield from (citation.sentence(pair) for pair in judgement.verdicts if pair.metric == judgement.primary)
    yield from _careful(judgement.tuning, judgement.primary)
    yield from judgement.notes
    if judgement.curves and judgement.curves.against:
        confidence = judgement.compare.confidence
        yield (
            f"by budget: the bands hold with the chance {confidence:.4g} at all budgets together (max-t), for all arms "
            "and at all looks of the plan; the verdict, which is about the end of training alone, has an error rate of "
            f"its own: the chance that either is false is up to {2 * (1 - confidence):.2g}"
        )


def bibtex(judgement: Judgement) -> str:
    """The end of a Markdown page: each sentence as an entry of BibTeX."""
    entries = [citation.bibtex(pair) for pair in judgement.verdicts if pair.metric == judgement.primary]
    return "\n".join(["\n## To cite\n", *(f"```bibtex\n{entry}\n```\n" for entry in entries)]) if entries else ""


def to_dict(judgement: Judgement) -> dict[str, Any]:
    """For programs."""
    arms = [
        {
            "label": arm.label,
            "values": arm.values,
            "seeds": list(arm.runs),
            "runs": [run.name for run in arm.runs.values()],
            **{budget: arm.cost(budget) for budget in BUDGETS},
        }
        for arm in judgement.arms
    ]
    primary = [pair for pair in judgement.verdicts if pair.metric == judgement.primary]
    cited = {pair.arm: {"sentence": citation.sentence(pair), "bibtex": citation.bibtex(pair)} for pair in primary}
    return {
        "question": judgement.question,
        "primary": judgement.primary,
        "notes": judgement.notes,
        "fingerprint": judgement.fingerprint,
        "plan": judgement.plan,
        "open": judgement.open,
        "next_look": judgement.next_look,
        "compare": judgement.compare.model_dump(mode="json"),
        "arms": arms,
        "verdicts": [pair.to_dict() for pair in judgement.verdicts],
        "citations": cited,
        "curves": _plain(judgement.curves),
        "tuning": _plain(judgement.tuning),
    }


def _plain(value: Any) -> Any:
    """Named tuples as mappings, and None for NaN and infinity, which JSON does not have."""
    if isinstance(value, tuple):
        fields = value._asdict() if hasattr(value, "_asdict") else None
        return {key: _plain(part) for key, part in fields.items()} if fields else [*map(_plain, value)]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _gaps(judgement: Judgement) -> Iterator[Block]:
    """The seeds' differences with their mean and interval: a panel per metric, a row per arm."""
    verdicts = judgement.verdicts
    if not verdicts:
        return
    panels: dict[str, dict[str, Verdict]] = {}
    for pair in verdicts:
        panels.setdefault(f"{pair.metric} ({pair.direction} is better)", {})[pair.arm] = pair
    caption = (
        f"difference from {verdicts[0].baseline}: a dot for each training seed, a band for the practical threshold"
    )
    yield Figure(caption, partial(plots.gaps, panels=panels, title=caption), "verdict", wide=True)


def _arms(judgement: Judgement) -> Table:
    rows = []
    for arm in judgement.arms:
        costs = ["unknown" if (cost := arm.cost(budget)) is None else f"{cost:,}" for budget in BUDGETS]
        rows.append([arm.label + " (baseline)" * (arm is judgement.arms[0]), str(len(arm.runs)), *costs])
    return Table(["arm", "seeds", *BUDGETS.values()], rows)


def _pairs(verdicts: Iterable[Verdict]) -> Iterator[Table]:
    """For each pair a row for each metric: both means, the difference, what was tested, and the verdict."""
    for (baseline, arm), of_pair in grouped(verdicts, lambda pair: (pair.baseline, pair.arm)).items():
        rows = []
        for pair in of_pair:
            relative = "" if pair.relative is None else f" ({pair.relative:+.1%})"
            tested = ["-", "-"]
            if pair.low is not None:  # then the others are not None either
                tested = [f"{pair.low:+.3g} to {pair.high:+.3g}", f"{pair.p:.2g}"]
            means = (f"{pair.baseline_mean:.4g}", f"{pair.arm_mean:.4g}", f"{pair.difference:+.3g}{relative}")
            rows.append([pair.metric, *means, *tested, pair.outcome, pair.reason])
        heads = [HEADS[0], baseline, arm, *HEADS[3:]]
        yield Table(heads, rows, f"{arm} against {baseline}, {pairing.named(of_pair[0].seeds)}", (0, 6, 7))


def crossing(arm: Against, baseline: str) -> str:
    """Who leads where, and where they cross, as far as the band supports it."""
    names = {"better": arm.arm, "worse": baseline}
    leads = [(point.images, names[point.outcome]) for point in arm.points if point.outcome in names]
    spans = [(who, [at for at, _ in group]) for who, group in groupby(leads, key=lambda lead: lead[1])]
    parts = [f"{who} leads {_at(images)}" for who, images in spans]
    for outcome in ("equivalent", "too early", "useless", "open"):
        if rest := [point.images for point in arm.points if point.outcome == outcome]:
            parts.append(f"{outcome} {_at(rest) if len(rest) < len(arm.points) else 'at every budget'}")
    for (_, before), (_, after) in pairwise(spans):
        parts.append(f"they cross between {before[-1]:,} and {after[0]:,}")
    if len(spans) < 2:
        for one, other in pairwise(arm.points):
            if one.difference * other.difference < 0 and "open" in (one.outcome, other.outcome):
                parts.append(f"the means cross between {one.images:,} and {other.images:,}, which the band leaves open")
    return "; ".join(parts)


def _curves(curves: Curves) -> Iterator[Block]:
    """Mean scores over images seen, the differences from the baseline with their bands, and a table of each."""
    direction = metrics.direction(curves.metric)
    means = {arm.arm: np.array([arm.images, arm.means]).T for arm in curves.learned}
    options: dict[str, Any] = {"log": "x", "points": True}
    options["ticks"] = sorted({at for arm in curves.learned for at in arm.images})
    panels = [Panel(f"mean over seeds ({direction} is better)", "images seen", curves.metric, means, **options)]
    gaps = {}
    for arm in curves.against:
        rows = [(p.images, p.difference, *(() if p.high is None else (p.high - p.difference,))) for p in arm.points]
        gaps[arm.arm] = np.array(rows)
    if gaps:
        title = f"difference from {curves.baseline}, band over all budgets"
        panels.append(Panel(title, "images seen", curves.metric, gaps, {"no difference": 0.0}, **options))
    yield Figure("the score over training, and each difference from the baseline", panels, "curve", wide=True)
    for arm in curves.against:
        cells = []
        for point in arm.points:
            band = "-" if point.low is None else f"{point.low:+.3g} to {point.high:+.3g}"
            shown = (f"{point.images:,}", f"{point.difference:+.3g}", band, f"{point.margin:.2g}")
            cells.append([*shown, point.outcome])
        title = f"{arm.arm} against {curves.baseline} by budget, {curves.metric}, {pairing.named(arm.seeds)}"
        yield Table(["images", "difference", "band", "margin", "at this budget"], cells, title, (4,))


def _tuning(tried: tuple[Tried, ...], metric: str) -> Table:
    """A row for each arm and a column for each point, with the interval of how much worse it is than the one chosen."""
    points = tuning.points(tried)
    rows = [[arm, *map(_mean, of_arm)] for arm, of_arm in grouped(tried, lambda row: row.arm).items()]
    signs = f"{CHOSEN} chosen; how much worse than that, as an interval; {POSSIBLE} possibly the best"
    title = f"{metric} by {' and '.join(points[0])}, means of {_seeds(tried, 'tuning seed')} ({signs})"
    return Table(["arm", *map(_values, points)], rows, title)


def _careful(tried: tuple[Tried, ...], metric: str) -> Iterator[str]:
    """No value that works, or the best at an edge of the grid."""
    for arm, of_arm in grouped(tried, lambda row: row.arm).items():
        best = next((row for row in of_arm if row.chosen), None)
        if best is None:
            yield f"{arm}: left out: it has no {metric} at any of the values tried"
            continue
        if odd := [named(row.values) for row in of_arm if not math.isfinite(row.mean)]:
            yield f"{arm}: no {metric}, or training diverged, at {'; '.join(odd)}"
        for key, value in best.values.items():
            values = [row.values[key] for row in of_arm]
            if all(map(_is_number, values)) and value in (min(values), max(values)):
                edge = "largest" if value == max(values) else "smallest"
                yield f"{arm}: chosen at {key} {value}, the {edge} tried: the grid may be too small"


def _mean(row: Tried) -> str:
    if not math.isfinite(row.mean):
        return "none"
    gap = CHOSEN if row.chosen else f" ({row.behind[0]:+.3g} to {row.behind[1]:+.3g}){POSSIBLE * row.possible}"
    return f"{row.mean:.4g}{gap}"


def _values(values: Mapping[str, Any]) -> str:
    return ", ".join(map(str, values.values()))


def _seeds(tried: tuple[Tried, ...], what: str) -> str:
    count = len(tried[0].scores)
    return f"{count} {what}{'s' * (count > 1)}"


def _at(images: Iterable[int]) -> str:
    *before, last = (f"{at:,}" for at in images)
    return f"at {', '.join(before)} and {last} images" if before else f"at {last} images"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
