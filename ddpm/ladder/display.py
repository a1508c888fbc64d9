"""What is shown of a ladder: the climb as a table and a picture, an attempt for programs, and all of it in MLflow, as a
run with the climb, and below it the runs of its attempts and the trials of its searches."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from ddpm.arms import revision
from ddpm.base.errors import plural, printable
from ddpm.ladder import outcome
from ddpm.ladder.climb import Attempt, Climb
from ddpm.ladder.log import BASE
from ddpm.ladder.terms import CHALLENGER, CHAMPION, Changes
from ddpm.pictures import plots
from ddpm.pictures.plots import Panel
from ddpm.programs.program import COMMIT
from ddpm.referee import metrics
from ddpm.report import live
from ddpm.report.blocks import Block, Chapter, Figure, Note, Table, cell, plain
from ddpm.tracking import tracker
from ddpm.tracking.tracker import Page
from ddpm.verdicts import statistics

FILES = ("climb.md", "climb.png", "search.md", "search.png", "page.html")
REFUSED = "not accepted"
AGAIN = "the champion, on the same seeds"
Points: TypeAlias = list[list[float]]
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
    gains = challenger - champion
    low, high = attempt.evidence.interval(champion, challenger, terms.error) if len(gains) else (-math.inf, math.inf)
    score = float(np.mean(end.challenger)) if end and end.challenger else None
    gaussian = state.gaussian(attempt)
    early = attempt.rung and score is not None and metrics.is_early(score, gaussian)
    early_reason = f"still worse than a Gaussian, {gaussian:.3g}: train for longer" if early else ""
    return {
        "ladder": state.contest.name,
        "entry": begin.entry,
        "length": attempt.length,
        "attempt": attempt.number,
        "outcome": attempt.outcome,
        "reason": (end and end.reason) or early_reason,
        "rung": attempt.rung,
        "changes": dict(begin.changes),
        "cost": attempt.cost,
        "e": math.exp(state.log_e(end)) if end else None,
        "threshold": attempt.needed,
        "seeds": len(gains),
        "first_seed": attempt.first_seed,
        "score": score,
        "champion": float(np.mean(end.champion)) if end and end.champion else None,
        "gaussian": gaussian,
        "estimate": float(gains.mean()) if len(gains) else None,
        "worst": float(gains.min()) if len(gains) else None,
        "collapse_rate": statistics.collapse_rate(len(gains)) if len(gains) else None,
        "low": low if math.isfinite(low) else None,
        "high": high if math.isfinite(high) else None,
    }


def chapters(state: Climb, picture: bool = True) -> list[Chapter]:
    """The question, the champion, every attempt, and the picture."""
    terms, name = state.contest.terms, state.title
    attempts = [to_dict(state, attempt) for attempt in state.attempts]
    if state.changes:
        name += f": {_describe(state.changes)}"
    cost = state.champion.cost if state.champion else _base_cost(state)
    counts = f"{plural(len(state.attempts), 'attempt')}, {plural(len(state.rungs), 'rung')}"
    blocks: list[Block] = [
        Note(f"{state.contest.name}: {terms.question}"),
        Note(f"champion: {name}; {cost:.4g} {terms.cost}"),
        Note(f"{counts}; at most {100 * terms.error:g}% of rungs are false"),
    ]
    if attempts:
        rows = [[cell((row | {"entry": name_entry(row)})[key]) for key in COLUMNS] for row in attempts]
        blocks.append(Table(list(COLUMNS.values()), rows, "", (1, 2, 13)))
    if picture and any(one["score"] is not None for one in attempts):
        blocks.append(Figure("The climb", "climb", partial(plots.lines, panels=_panels(state, attempts))))
    return [Chapter("", blocks)]


def name_entry(shown: dict[str, Any]) -> str:
    """The entry of an attempt, which may be a commit or a longer one, for people. shown: ``to_dict`` of it."""
    commit = shown["changes"].get(COMMIT)
    subject = f" ({printable(revision.subject(commit))})" if commit else ""
    return shown["entry"] + subject + ("" if shown["length"] == 1 else f", {shown['length']:g} times as long")


def page(state: Climb, running: bool = True) -> list[Chapter]:
    """What the last attempt tries, what its sides drew first and scored, and the climb."""
    attempt, terms = state.attempts[-1], state.contest.terms
    runs, name = state.runs(attempt), name_entry(to_dict(state, attempt))
    sides = [arm for arm in (CHAMPION, CHALLENGER) if any(run.arm == arm for run in runs.planned)]
    scores = {
        arm: {run.seed or 0: run.scores[terms.primary] for run in runs.leading_records(arm) if not run.diverged}
        for arm in sides
    }
    levels = {"target": terms.target, "a Gaussian of the train images": state.gaussian(attempt)}
    drawn = {"real images": runs.grids(CHALLENGER) / "real.png"} | {arm: runs.grids(arm) / "grid.png" for arm in sides}
    return [
        Chapter("", [Note(f"{name}: {_describe(attempt.begin.changes)}")]),
        Chapter("Pictures", live.side_by_side(drawn)),
        Chapter("Runs", live.show_sides(scores, state.contest.known.axis(terms.primary), levels)),
        Chapter("The climb", chapters(state, picture=not running)[0].blocks),
    ]


def _describe(changes: Changes) -> str:
    return ", ".join(f"{key} {plain(value)}" for key, value in changes.items())


def _base_cost(state: Climb) -> float:
    """The cost of the base as its own runs recorded it: to compute it takes torch."""
    attempts = (state.runs(one) for one in state.attempts if one.begin.on == BASE)
    costs = [run.costs for runs in (state.runs_of_base(), *attempts) for run in runs.leading_records(CHAMPION)[:1]]
    cost = costs and (costs[0].flops if state.contest.terms.cost == "flops" else costs[0].images_seen)
    return cost or state.contest.limit


def _panels(state: Climb, attempts: Sequence[dict[str, Any]]) -> list[Panel]:
    """The score by attempt, its interval that of the gain, for each length; for kind ``score`` the base's is the first,
    for kind ``target`` the cost comes before it."""
    terms, sign = state.contest.terms, state.contest.gain(1.0)
    scored = [one for one in attempts if one["score"] is not None]
    last = scored[-1]["attempt"]
    ticks = range(0, last + 1, 1 + last // 10)

    def draw(title: str, base: float | None, points: Mapping[int, list[float]], again: Points | None = None) -> Panel:
        """base: its value. points: by attempt, its value and the ends of its interval. again: of scores, AGAIN."""
        curves = {"rungs": [] if base is None else [[0, base, base, base]], REFUSED: [], AGAIN: again or []}
        for number, point in points.items():
            is_rung = attempts[number - 1]["outcome"] == "accepted"
            curves["rungs" if is_rung else REFUSED].append([number, *point])
        arrays = {label: np.array(each) for label, each in curves.items() if each}
        levels = {} if again is None or terms.target is None else {"target": terms.target}
        return Panel("", "attempt", title, arrays, levels, ticks=ticks, steps=True, gray=[REFUSED, AGAIN])

    def span(one: dict[str, Any]) -> list[float]:
        gaps = [0.0 if one[end] is None else sign * (one[end] - one["estimate"]) for end in ("low", "high")]
        return [one["score"] + gap for gap in (0.0, *sorted(gaps))]

    panels = list[Panel]()
    if terms.kind == "target":
        costs = {one["attempt"]: [one["cost"]] * 3 for one in scored}
        panels.append(draw(f"{terms.cost} of training", _base_cost(state), costs))
    for length in sorted({one["length"] for one in scored}):
        shown = [one for one in scored if one["length"] == length]
        refused = [one for one in shown if one["champion"] and one["outcome"] != "accepted"]
        on_base = (one.end for one in state.attempts if one.begin.on == BASE and one.length == length)
        before = next((float(np.mean(end.champion)) for end in on_base if end and end.champion), None)
        title = metrics.title(terms.primary) + ("" if length == 1 else f", {length:g} times as long")
        again = [[one["attempt"], *[one["champion"]] * 3] for one in refused]
        panels.append(draw(title, before, {one["attempt"]: span(one) for one in shown}, again))
    return panels


def log(state: Climb) -> None:
    """Write the runs that MLflow does not have yet, unless tracking is off."""
    contest = state.contest
    if contest.of_program:
        return
    page = Page(
        "ddpm.ladder",
        contest.name,
        f"ladder {contest.name}",
        {"ddpm.primary": contest.terms.primary},
        f"{contest.terms.question}\n\nChampion: {state.title}. Attempts: {len(state.attempts)}.",
        [contest.folder / name for name in FILES],
    )

    runs = ((one.begin.entry, state.runs(one).records.items()) for one in state.attempts)
    records = {f"{name} {entry}": run for entry, rows in runs for name, run in rows}
    tracker.write_page(page, records)
