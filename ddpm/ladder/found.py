"""What is shown of a search: its trials, what it claims about its find, and what the proof says, side by side."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ddpm.base import files
from ddpm.base.errors import plural
from ddpm.ladder import display, trials
from ddpm.ladder.search import Search
from ddpm.ladder.terms import CHALLENGER, CHAMPION
from ddpm.pictures import grids
from ddpm.referee import metrics
from ddpm.report import live
from ddpm.report.blocks import Block, Chapter, Figure, Note, Table, cell, plain
from ddpm.report.live import Tried

BEFORE, CLAIMED, FIND = SIDES = "champion, fresh seeds", "find, as claimed", "find, fresh seeds"


def to_dict(done: Search, running: bool = False) -> dict[str, Any]:
    """A search for programs. claim: the mean score of the find's trials, which is too good. proof: the attempt, as
    ``ddpm ladder try`` has it; null if nothing was found. longer: the one at the ladder's longer training. idea: the
    attempt with the best known idea, which came before the proof. running: without an outcome."""
    proof, scores = done.proof, [trial.score for trial in done.claims if trial.score is not None]
    shown = [display.to_dict(done.state, one) for one in done.attempts]
    if running and shown:
        shown[-1]["outcome"] = None
    after = [one for one in shown if proof and one["attempt"] >= proof.number]
    return {
        "ladder": done.contest.name,
        "search": done.number,
        "trials": len(done.own()),
        "evidence": False,
        "claim": float(np.mean(scores)) if scores else None,
        "runs": len(scores),
        "find": dict(proof.whole) if proof else {},
        "reason": "" if proof else done.find()[1],
        "eyes": _compare_eyes(done),
        "proof": next(iter(after), None),
        "longer": next(iter(after[1:]), None),
        "idea": next((one for one in shown if one not in after), None),
        "fresh": {"find": proof.end.challenger, "champion": proof.end.champion} if proof and proof.end else {},
    }


def _compare_eyes(done: Search) -> dict[str, dict[str, float]]:
    """The means of the proof's sides in every eye and, of the find's trials, in those that they had; empty without a
    proof or a panel."""
    if not done.proof:
        return {}
    proof, sides = done.state.runs(done.proof), dict[str, list[Mapping[str, float]]]()
    for side, arm in ((BEFORE, CHAMPION), (FIND, CHALLENGER)):
        sides[side] = [run.scores for run in proof.leading_records(arm)]
    sides[CLAIMED] = [trial.eyes for trial in done.claims if trial.eyes]
    means = {side: metrics.means(runs, metrics.list_panel(runs)) for side, runs in sides.items()}
    return means if means[FIND] else {}


def chapters(done: Search, result: dict[str, Any]) -> list[Chapter]:
    """The find and its proof, key by key, and what they drew. result: ``to_dict`` of the search."""
    drawn = {caption: path for caption, path in _list_pictures(done).items() if files.is_own(path)}
    picture = [Figure(", ".join(drawn), "search", partial(grids.join, drawn, in_a_row=True))] if drawn else []
    return [Chapter("", [*_answer(done, result), *picture, *_find(done, result)])]


def page(done: Search, result: dict[str, Any] | None = None) -> list[Chapter]:
    """What there is: the answer, pictures, every trial and, as long as it runs and has no ``result``, the time left."""
    left = Note(f"{plural(len(done.own()), 'trial')} so far; {done.left()}")
    known = result or to_dict(done, running=True)
    parts = {
        "": _answer(done, known) if result or done.proof else [left],
        "Pictures": live.side_by_side(_list_pictures(done)),
        "The find": _find(done, known),
        "Trials": _trials(done, known),
    }
    return [Chapter(title, blocks) for title, blocks in parts.items()]


def _answer(done: Search, result: dict[str, Any]) -> list[Block]:
    nothing = "nothing seems better than the champion, so there was no attempt: take more trials"
    title = metrics.title(done.contest.terms.primary)
    if proof := result["proof"]:
        answer = _sentence(proof, title, result["claim"])
        if proof["champion"] is not None and metrics.is_early(proof["champion"], proof["gaussian"]):
            than = f"a Gaussian of the train images ({cell(proof['gaussian'])})"
            answer += f". The champion is worse than {than}, easy to beat: begin another ladder at a better base"
    else:
        answer = result["reason"] or nothing
    if idea := result["idea"]:
        answer += f". The best known idea was tried first: {_sentence(idea, title)}"
    if longer := result["longer"]:
        answer += f". {longer['length']:g} times as long: {_sentence(longer, title)}"
    whole = f", {len(done.own(1.0))} of them whole" if done.contest.lengths[:-1] else ""
    return [Note(f"{result['trials']} trials{whole}; they are not evidence, the proof is"), Note(answer)]


def _find(done: Search, result: dict[str, Any]) -> list[Block]:
    """The keys of the find, and its means in every eye."""
    blocks = list[Block]()
    if proof := result["proof"]:
        rows = [[key, plain(done.space.usual.get(key)), plain(value)] for key, value in proof["changes"].items()]
        blocks.append(Table(["key", "champion", "find"], rows, "", (0, 1, 2)))
    if eyes := result["eyes"]:
        rows = [[name, *(cell(eyes[side].get(name)) for side in SIDES)] for name in eyes[FIND]]
        blocks.append(Table(["eye", *SIDES], rows, "", (0,)))
    return blocks


def _best(done: Search) -> str:
    """The key of the recipe that is proved, or else of the best so far; empty if none keeps the guards."""
    return next((one.key for one in (done.claims if done.proof else done.rank(done.own(1.0)))), "")


def _list_pictures(done: Search) -> dict[str, Path]:
    """Real images, and what the champion and the best recipe drew first; of a find, in its proof."""
    firsts = {trial.key: done.grids(trial.key, trial.seed) for trial in reversed(done.own(1.0))}
    nowhere = done.grids("", 0)  # which is no seed of a trial
    champion, best = (firsts.get(key, nowhere) for key in (files.digest(done.space.champion), _best(done)))
    shown = {"real images": champion / "real.png", "the champion": champion / "grid.png"}
    if done.proof and (done.contest.find / "grid.png").exists():
        shown["the find"] = done.contest.find / "grid.png"
    elif best != champion:
        shown["the best so far"] = best / "grid.png"
    return shown


def _trials(done: Search, result: dict[str, Any]) -> list[Block]:
    """All trials, the claim and the proof."""
    terms, champion, tried = done.contest.terms, done.space.champion, list[Tried]()
    usual = {length: trials.find_usual(done.own(length), champion) for length in done.contest.lengths}
    kinds = {_best(done): live.FIND, files.digest(champion): live.CHAMPION}
    for number, trial in enumerate(done.own(), 1):
        judged = trials.judge(done.contest, [trial], usual[trial.length])
        kind = kinds.get(trial.key, live.FAILS if judged.fails else live.TRIAL)
        recipe, fails = done.space.describe(trial.changes, trial.length), " and ".join(judged.fails)
        tried.append(Tried(number, recipe, trial.score, judged.loss, fails, trial.seconds, kind))
    claim = [] if result["claim"] is None else [result["claim"]]
    find, before = (result["fresh"].get(side, ()) for side in ("find", "champion"))
    ends = ("claim", live.FIND, claim), ("proof", live.FIND, find), ("before", live.CHAMPION, before)
    levels = {"target": terms.target, "a Gaussian of the train images": done.yardstick}
    axis = done.contest.known.axis(terms.primary)
    return live.show_trials(tried, axis, levels, [end for end in ends if end[2]])


def _sentence(proof: dict[str, Any], title: str, claim: float | None = None) -> str:
    words = {None: "not decided yet", "accepted": "it holds", "refused": "it did not hold up"}
    answer = words.get(proof["outcome"], proof["outcome"])
    if proof["score"] is not None:
        before = "" if proof["champion"] is None else f" instead of {cell(proof['champion'])}"
        answer += f": {title} {cell(proof['score'])}{before} in {plural(proof['seeds'], 'fresh seed')}"
    if proof["low"] is not None and proof["high"] is not None:
        answer += f", better by {cell(proof['low'])} to {cell(proof['high'])}"
    if claim is not None:
        answer += f"; the search had claimed {cell(claim)}"
    return answer + (f" ({proof['reason']})" if proof["reason"] else "")
