"""What is shown of a ladder: the climb as a table and a picture, and an attempt for programs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from ddpm.base.errors import plural
from ddpm.ladder import outcome
from ddpm.ladder.climb import Attempt, Climb
from ddpm.ladder.log import BASE
from ddpm.ladder.terms import CHALLENGER, CHAMPION
from ddpm.pictures import plots
from ddpm.pictures.plots import Panel
from ddpm.referee import metrics
from ddpm.report import live
from ddpm.report.blocks import Block, Chapter, Figure, Note, Table, cell, plain
from ddpm.verdicts import statistics

REFUSED = "not accepted"
AGAIN = "the champion, on the same seeds"
# what the table shows of ``to_dict``
COLUMNS = {
    "attempt": "attempt", "entry": "entry", "outcome": "outcome", "rung": "rung", "e": "e-value", "threshold": "needed",
    "seeds": "seeds", "estimate": "gain", "low": "from", "high": "to", "worst": "worst seed",
    "collapse_rate": "may be worse", "cost": "cost", "reason": "why",
}  # fmt: skip


def to_dict(state: Climb, attempt: Attempt) -> dict[str, Any]:
    """An attempt for programs. estimate, low, high, worst: of the gain, positive if better; null if unknown.
    collapse_rate: the share of seeds that may be worse than the worst. Seeds are consecutive."""
    begin, end, terms = attempt.begin, attempt.end, state.contest.terms
    champion, challenger = outcome.scores(state.contest, end) if end else (np.array([]), np.array([]))
    gains = -(champion - challenger)  # equal scores are -0, as on stored pages
    low, high = attempt.evidence.interval(champion, challenger, terms.error) if len(gains) else (-math.inf, math.inf)
    score = float(np.mean(end.challenger)) if end and end.challenger else None
    early = attempt.rung and score is not None and metrics.is_early(score, attempt.gaussian)
    early_reason = f"still worse than a Gaussian, {attempt.gaussian:.3g}: train for longer" if early else ""
    return {
        "ladder": state.contest.name,
        "entry": begin.entry,
        "attempt": attempt.number,
        "outcome": attempt.outcome,
        "reason": (end and end.reason) or early_reason,
        "rung": attempt.rung,
        "changes": dict(begin.changes),
        "cost": attempt.cost,
        "e": math.exp(state.log_e(end)) if end else None,
        "threshold": attempt.needed,
        "seeds": len(gains),
        "first_seed": state.first_seed(attempt),
        "score": score,
        "champion": float(np.mean(end.champion)) if end and end.champion else None,
        "gaussian": attempt.gaussian,
        "estimate": float(gains.mean()) if len(gains) else None,
        "worst": float(gains.min()) if len(gains) else None,
        "collapse_rate": statistics.collapse_rate(len(gains)) if len(gains) else None,
        "low": low if math.isfinite(low) else None,
        "high": high if math.isfinite(high) else None,
    }


def chapters(state: Climb) -> list[Chapter]:
    """The question, the champion, every attempt, and the picture."""
    terms, champion = state.contest.terms, state.champion
    attempts = [to_dict(state, attempt) for attempt in state.attempts]
    changes = state.changes(champion.key) if champion else {}
    name = f"rung {champion.rung}, {champion.begin.entry}" if champion else f"the base, {terms.base}"
    if changes:
        name += f": {', '.join(f'{key} {plain(value)}' for key, value in changes.items())}"
    cost = champion.cost if champion else _base_cost(state)
    counts = f"{plural(len(state.attempts), 'attempt')}, {plural(len(state.rungs), 'rung')}"
    blocks: list[Block] = [
        Note(f"{state.contest.name}: {terms.question}"),
        Note(f"champion: {name}; {cost:.4g} {terms.cost}"),
        Note(f"{counts}; at most {100 * terms.error:g}% of rungs are false"),
    ]
    if attempts:
        rows = [[cell(row[key]) for key in COLUMNS] for row in attempts]
        blocks.append(Table(list(COLUMNS.values()), rows, "", (1, 2, 13)))
    if any(one["score"] is not None for one in attempts):
        blocks.append(Figure("The climb", "climb", partial(plots.lines, panels=_panels(state, attempts))))
    return [Chapter("", blocks)]


def page(state: Climb, running: bool = True) -> list[Chapter]:
    """The last attempt, with what its sides drew first, and then the climb."""
    attempt, terms = state.attempts[-1], state.contest.terms
    shown, runs = to_dict(state, attempt), state.runs(attempt)
    arms, grids = {run.arm for run in runs.planned}, runs.grids
    sides: list[str] = [arm for arm in (CHAMPION, CHALLENGER) if arm in arms]
    outcome = "running" if running else ": ".join(filter(None, [attempt.outcome, shown["reason"]]))
    evidence = "" if shown["e"] is None else f", e-value {shown['e']:.3g} of {attempt.needed:.0f}"
    scores = {
        arm: {run.seed or 0: run.scores[terms.primary] for run in runs.leading_records(arm) if not run.diverged}
        for arm in sides
    }
    levels = {"target": terms.target, "a Gaussian of the train images": attempt.gaussian}
    drawn = {"real images": grids(CHALLENGER) / "real.png"} | {arm: grids(arm) / "grid.png" for arm in sides}
    changes = ", ".join(f"{key} {plain(value)}" for key, value in attempt.begin.changes.items())
    title = f"{metrics.title(terms.primary)} ({state.contest.known.direction(terms.primary)} is better)"
    seeds = f"{plural(shown['seeds'], 'seed')} of {terms.seeds.most}"
    return [
        Chapter("", [Note(f"{attempt.begin.entry}: {changes}"), Note(f"{outcome}; {seeds}{evidence}")]),
        Chapter("Pictures", live.side_by_side(drawn)),
        Chapter("Runs", live.show_sides(scores, title, levels)),
        *([] if running else [Chapter("The climb", chapters(state)[0].blocks)]),
    ]


def _base_cost(state: Climb) -> float:
    """The cost of the base as its own runs recorded it: to compute it takes torch."""
    attempts = (state.runs(one) for one in state.attempts if one.begin.on == BASE)
    costs = [run.costs for runs in (state.runs_of_base(), *attempts) for run in runs.leading_records(CHAMPION)[:1]]
    cost = costs and (costs[0].flops if state.contest.terms.cost == "flops" else costs[0].images_seen)
    return cost or state.contest.limit


def _panels(state: Climb, attempts: Sequence[dict[str, Any]]) -> list[Panel]:
    """The score by attempt, its interval that of the gain; for kind ``score`` the base's is the first, for kind
    ``target`` the cost comes before it."""
    terms, sign = state.contest.terms, state.contest.gain(1.0)
    # each: whether it is a rung, the number of the attempt, then the values of the curve
    costs = [(True, 0, *[_base_cost(state)] * 3)] if terms.kind == "target" else []
    ended = (attempt.end for attempt in state.attempts if attempt.end and attempt.begin.on == BASE)
    before = next((end.champion for end in ended if end.champion), None)
    scores = [(True, 0, *[float(np.mean(before))] * 3)] if before else []
    for one in attempts:
        if one["score"] is not None:
            gaps = [0.0 if one[end] is None else sign * (one[end] - one["estimate"]) for end in ("low", "high")]
            scores.append(
                (is_rung := bool(one["rung"]), one["attempt"], *(one["score"] + gap for gap in (0.0, *sorted(gaps))))
            )
            costs.append((is_rung, one["attempt"], *[one["cost"]] * 3))
    tried = [one for one in attempts if one["champion"] and not one["rung"]]
    again = [(one["attempt"], *[one["champion"]] * 3) for one in tried]

    def panel(title: str, points: Sequence[tuple[Any, ...]], levels: dict[str, float], others: dict[str, Any]) -> Panel:
        curves = {
            label: np.array([place for stands, *place in points if stands == is_rung])
            for is_rung, label in ((True, "rungs"), (False, REFUSED))
            if any(stands == is_rung for stands, *_ in points)
        }
        last = max((attempt for _, attempt, *_ in points), default=0)
        ticks = range(0, last + 1, 1 + last // 10)
        gray = [REFUSED, AGAIN]
        return Panel("", "attempt", title, curves | others, levels, ticks=ticks, steps=True, gray=gray)

    target = {} if terms.target is None else {"target": terms.target}
    panels = [panel(f"{terms.cost} of training", costs, {}, {})] if terms.kind == "target" else []
    others = {AGAIN: np.array(again)} if again else {}
    return [*panels, panel(metrics.title(terms.primary), scores, target, others)]
