"""What is shown of a search: its trials, what it claims about its find, and what the proof says, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from statistics import fmean
from typing import Any

import numpy as np

from ddpm.ladder import display, proposals
from ddpm.ladder.search import Search
from ddpm.ladder.terms import CHALLENGER, CHAMPION
from ddpm.pictures import plots
from ddpm.pictures.plots import Panel
from ddpm.referee import metrics
from ddpm.report.blocks import Block, Chapter, Figure, Note, Table, cell, plain

TRIALS, BEST, CLAIM = "trials, one run each", "the best so far", "the find, as the search has it"
PROVED = "the find, on fresh seeds"
BEFORE, CLAIMED, FIND = SIDES = "champion, fresh seeds", "find, as claimed", "find, fresh seeds"
SHOWN = 8  # keys
MEANING = (
    "How much of the differences between trials each key explains, alone and with others, in this space. A key that "
    "the find needs may explain little, because few trials went elsewhere; none of it is a verdict."
)


def to_dict(done: Search) -> dict[str, Any]:
    """A search for programs. claim: the mean score of the find's trials, which is too good. proof: the attempt, as
    ``ddpm ladder try`` has it; null if nothing was found."""
    state, proof = done.state, done.proof
    changes = {**state.changes(proof.begin.on), **proof.begin.changes} if proof else {}
    own = [trial.score for trial in done.own_trials if proof and done.space.entry(trial.changes) == proof.begin.changes]
    scores = [score for score in own if score is not None]
    return {
        "ladder": done.contest.name,
        "search": done.number,
        "trials": len(done.own_trials),
        "evidence": False,
        "claim": float(np.mean(scores)) if scores else None,
        "runs": len(scores),
        "find": changes,
        "importances": proposals.importances(done.space, done.past),
        "reason": "" if proof else done.early(done.best()),
        "eyes": _compare_eyes(done),
        "proof": display.to_dict(state, proof) if proof else None,
        "fresh": {"find": proof.end.challenger, "champion": proof.end.champion} if proof and proof.end else {},
    }


def _compare_eyes(done: Search) -> dict[str, dict[str, float]]:
    """The means of the proof's sides in every eye and, of the find's trials, in those that they had; empty without a
    proof or a panel."""
    if not done.proof:
        return {}
    proof, made = done.state.runs(done.proof), done.proof.begin.changes
    sides: dict[str, list[Mapping[str, float]]] = {
        side: [run.scores for run in proof.leading_records(arm)]
        for side, arm in ((BEFORE, CHAMPION), (FIND, CHALLENGER))
    }
    sides[CLAIMED] = [trial.eyes for trial in done.own_trials if done.space.entry(trial.changes) == made and trial.eyes]
    means = {
        side: {name: fmean(scores[name] for scores in runs) for name in metrics.list_panel(runs)}
        for side, runs in sides.items()
    }
    return means if means[FIND] else {}


def chapters(done: Search, result: dict[str, Any]) -> list[Chapter]:
    """The find and its proof, key by key, and the picture. result: ``to_dict`` of the search."""
    title, proof = metrics.title(done.contest.terms.primary), result["proof"]
    blocks: list[Block] = [Note(f"{result['trials']} trials; they are not evidence, the proof is")]
    if proof is None:
        nothing = "nothing seems better than the champion, so there was no attempt: take more trials"
        blocks.append(Note(result["reason"] or nothing))
    else:
        blocks.append(Note(_sentence(result, title)))
        usual = done.space.usual
        rows = [[key, plain(usual.get(key)), plain(value)] for key, value in proof["changes"].items()]
        blocks.append(Table(["key", "champion", "find"], rows, "", (0, 1, 2)))
        if eyes := result["eyes"]:
            rows = [[name, *(cell(eyes[side].get(name)) for side in SIDES)] for name in eyes[FIND]]
            blocks.append(Table(["eye", *SIDES], rows, "", (0,)))
    if weights := list(result["importances"].items())[:SHOWN]:
        rows = [[key, cell(weight)] for key, weight in weights]
        blocks += [Table(["key", "explains"], rows, "", (0,)), Note(MEANING)]
    if any(trial.score is not None for trial in done.past):
        blocks.append(Figure("The search", "search", partial(plots.lines, panels=[_panel(done, result, title)])))
    return [Chapter("", blocks)]


def _sentence(result: dict[str, Any], title: str) -> str:
    proof = result["proof"]
    holds = {"accepted": "it holds", "refused": "the find did not hold up", "undecided": "undecided"}
    words = holds.get(proof["outcome"], "not decided yet")
    if proof["score"] is not None:
        words += f": {title} {cell(proof['score'])}"
        words += "" if proof["champion"] is None else f" instead of {cell(proof['champion'])}"
        words += f" in {proof['seeds']} fresh seeds"
    if proof["low"] is not None and proof["high"] is not None:
        words += f", better by {cell(proof['low'])} to {cell(proof['high'])}"
    if result["claim"] is not None:
        words += f"; the search had claimed {cell(result['claim'])}"
    return words + (f" ({proof['reason']})" if proof["reason"] else "")


def _panel(done: Search, result: dict[str, Any], title: str) -> Panel:
    """Each trial's score in the order in which they came, the best so far, and then the claim, the proof and the
    champion, with bars from the best to the worst seed. For kind ``target``, which is about the cost, all by their
    cost, next to the target."""
    terms, sign, proof = done.contest.terms, done.contest.gain(1.0), result["proof"]
    scored = [(x, trial.cost, trial.score) for x, trial in enumerate(done.past, 1) if trial.score is not None]
    by_cost = terms.target is not None
    points = np.array([(cost if by_cost else x, score) for x, cost, score in scored])
    curves = {TRIALS: _bars(points)}
    if not by_cost:
        best = np.maximum.accumulate(sign * points[:, 1])
        curves[BEST] = _bars(np.column_stack([points[:, 0], sign * best]))
    end, gap = (proof["cost"], 0.0) if by_cost and proof else (1.06 * len(done.past) + 1, 0.03)
    if result["claim"] is not None:
        curves[CLAIM] = _bars([[end, result["claim"]]])
    for place, (label, side) in enumerate(((PROVED, "find"), (display.AGAIN, "champion")), 1):
        if seeds := result["fresh"].get(side):
            curves[label] = np.array([[(1 + gap * place) * end, np.mean(seeds), min(seeds), max(seeds)]])
    log, x = "y" if points[:, 1].min() > 0 else "", f"{terms.cost} of training" if by_cost else "trial"
    return Panel(
        "", x, title, curves,
        levels={} if terms.target is None else {"target": terms.target},
        log=f"x{log}" if by_cost else log,  # type: ignore[arg-type]
        ticks=() if by_cost else range(1, len(done.past) + 1, 1 + len(done.past) // 10),
        steps=True,
        gray=[TRIALS],
    )  # fmt: skip


def _bars(points: Any) -> Any:
    """Points with an interval of no length."""
    return np.array(points)[:, [0, 1, 1, 1]]
