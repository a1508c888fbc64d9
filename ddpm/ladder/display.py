"""What is shown of a ladder: the climb as a table and a picture, and an attempt for programs."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from ddpm.ladder import evidence
from ddpm.ladder.climb import Attempt, Climb
from ddpm.pictures import staircase
from ddpm.pictures.staircase import Point
from ddpm.report.blocks import Block, Chapter, Figure, Note, Table, number
from ddpm.verdicts import metrics

NOT_YET = "running"


def to_dict(state: Climb, attempt: Attempt) -> dict[str, Any]:
    """An attempt for programs. estimate, low, high: of the gain, positive if better; null if unknown."""
    end, terms = attempt.end, state.contest.terms
    gains = state.gains(end) if end else np.array([])
    low, high = evidence.interval(gains, terms.error) if len(gains) else (-math.inf, math.inf)
    return {
        "ladder": state.contest.name,
        "entry": attempt.begin.entry,
        "attempt": attempt.number,
        "challenge": attempt.begin.challenges is not None,
        "outcome": attempt.outcome,
        "reason": attempt.reason,
        "rung": attempt.rung,
        "stands": attempt.stands,
        "changes": dict(attempt.begin.changes),
        "cost": attempt.begin.cost,
        "e": math.exp(state.log_e(end)) if end else None,
        "threshold": attempt.needed,
        "seeds": len(gains),
        "score": float(np.mean(end.challenger)) if end and end.challenger else None,
        "estimate": float(gains.mean()) if len(gains) else None,
        "low": low if math.isfinite(low) else None,
        "high": high if math.isfinite(high) else None,
    }


def chapters(state: Climb) -> list[Chapter]:
    """The question, the champion, every attempt, and the picture."""
    terms, champion = state.contest.terms, state.champion
    rows = [_row(to_dict(state, attempt)) for attempt in (*state.attempts, *state.challenges)]
    changes = state.changes(champion.key) if champion else {}
    name = f"rung {champion.rung}, {champion.begin.entry}" if champion else f"the base, {terms.base}"
    shown = ", ".join(f"{key} {value}" for key, value in changes.items())
    cost = state.contest.cost(changes)
    blocks: list[Block] = [
        Note(f"{state.contest.name}: {terms.question}"),
        Note(f"champion: {name}{f': {shown}' * bool(shown)}; training costs {number(cost)} {terms.cost}"),
        Note(f"{len(state.attempts)} attempts, {state.standing} rungs; at most {terms.error:.0%} of rungs are false"),
    ]
    if rows:
        heads = ["attempt", "entry", "outcome", "rung", "e-value", "needed", "seeds", "gain", "interval", "cost", "why"]
        blocks.append(Table(heads, rows, "", (1, 2, 8, 10)))
    if panels := _panels(state):
        blocks.append(Figure("The climb", partial(staircase.draw, panels=panels), "climb", wide=True))
    return [Chapter("", blocks)]


def _row(shown: dict[str, Any]) -> list[str]:
    """A row of the table."""
    low, high = ("?" if shown[end] is None else number(shown[end]) for end in ("low", "high"))
    rung = "" if shown["rung"] is None else str(shown["rung"]) + " (fell)" * (not shown["stands"])
    return [
        str(shown["attempt"]) + " again" * shown["challenge"],
        shown["entry"],
        shown["outcome"] or NOT_YET,
        rung,
        "" if shown["e"] is None else f"{shown['e']:.3g}",
        f"{shown['threshold']:.0f}",
        str(shown["seeds"]),
        "" if shown["estimate"] is None else number(shown["estimate"]),
        f"{low} to {high}" if shown["seeds"] else "",
        f"{shown['cost']:.4g}",
        shown["reason"],
    ]


def _panels(state: Climb) -> list[tuple[str, list[Point], float | None]]:
    """The score by attempt, its interval that of the gain, and for kind ``target`` the cost before it."""
    terms, costs, scores = state.contest.terms, [], []
    for attempt in state.attempts:
        shown = to_dict(state, attempt)
        if shown["score"] is None:
            continue
        score, sign = shown["score"], state.contest.gain(1.0)
        ends = [score + sign * ((shown[end] or shown["estimate"]) - shown["estimate"]) for end in ("low", "high")]
        scores.append(Point(attempt.number, score, min(ends), max(ends), attempt.stands))
        cost = attempt.begin.cost
        costs.append(Point(attempt.number, cost, cost, cost, attempt.stands))
    panels: list[tuple[str, list[Point], float | None]] = [(metrics.title(terms.primary), scores, terms.target)]
    if terms.kind == "target":
        panels.insert(0, (f"{terms.cost} of training", costs, state.contest.cost({})))
    return panels if scores else []
