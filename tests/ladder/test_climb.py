"""What a ladder's log and records decide: rungs, guards, and which of them count."""

import json
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest
import yaml

from ddpm.base import files
from ddpm.base.errors import UserError
from ddpm.ladder import climb, display, log, terms
from ddpm.ladder.climb import Attempt
from ddpm.verdicts import evidence
from tests.ladders import FILE, LOG, SCORE, attempted, finished, ladder, state
from tests.ladders import log as lines

ROWS = Path("ladders/tiny/rows.jsonl")


@pytest.fixture(autouse=True)
def _alone(folder) -> None:
    """A working folder with a ladder, in which nothing can run."""
    FILE.parent.mkdir()
    FILE.write_text(yaml.safe_dump(SCORE))


def test_the_champion_is_the_highest_rung():
    keys = [attempted("a", 0.5), attempted("bb", -0.5), attempted("ccc", 0.5)]
    assert [rung.key for rung in state().rungs] == [keys[0], keys[2]]
    assert state().champion.key == keys[2]
    assert state().changes == {"train.steps": 13}
    assert [one.needed for one in state().attempts] == [evidence.threshold(n + 1, min(n, 1), 0.5) for n in range(3)]


def made(seed: int, scores: dict[str, float], diverged: str = "") -> SimpleNamespace:
    return SimpleNamespace(name=f"run-{seed}", seed=seed, diverged=diverged, scores=scores, samples=None)


def rung() -> tuple[climb.Climb, Attempt]:
    """A ladder with one rung."""
    attempted("a", 0.5)
    climbed = state()
    return climbed, climbed.rungs[0]


def judged(climbed: climb.Climb, attempt: Attempt, sides: dict[str, list[SimpleNamespace]]) -> tuple[log.End, bool]:
    climbed.cache[attempt.key] = SimpleNamespace(leading_records=sides.get)
    return climbed.judge(attempt)


@pytest.mark.parametrize("side", ["champion", "challenger"])
def test_runs_that_ignore_the_seed_are_refused(side):
    climbed, first = rung()
    sides = {
        arm: [made(seed, {"classifier.fd": 1.0 + seed}) for seed in range(6)] for arm in ("champion", "challenger")
    }
    sides[side][0].samples = sides[side][5].samples = "a" * 64
    with pytest.raises(UserError, match="under seeds 0 5"):
        judged(climbed, first, sides)


@pytest.mark.parametrize(("evidence", "seeds"), [({}, 12), ({"evidence": "pairs"}, 12), ({"evidence": "ranks"}, 7)])
def test_an_attempt_is_decided_by_the_evidence_that_its_line_names(evidence, seeds):
    """So attempts from before ranks, of which one may be open, are judged as they were."""
    FILE.write_text(yaml.safe_dump(SCORE | {"error": 0.05}))
    attempted("search-1", 0.5, **evidence)
    (rung,) = state().rungs
    shown = display.to_dict(state(), rung)
    assert (shown["seeds"], shown["e"] >= shown["threshold"]) == (seeds, True)
    assert 0.4 < shown["low"] < shown["estimate"] < shown["high"] < 0.6
    assert shown["collapse_rate"] == pytest.approx(1 - 0.05 ** (1 / seeds))


@pytest.mark.parametrize(("name", "kind"), [("search-1", {"kind": "target", "target": 0.9}), ("search-1-again", {})])
def test_no_line_chooses_the_evidence_that_assumes_more(name, kind):
    FILE.write_text(yaml.safe_dump(SCORE | kind))
    with pytest.raises(UserError, match="evidence: ranks"):
        attempted(name, 0.5, evidence="ranks")


def test_the_picture_has_a_point_for_the_base_and_for_every_attempt(tmp_path):
    """Also for the many that ended too early for an interval; before the first has ended there is none."""
    attempted("a", 0.5)
    ended = LOG.read_text()
    LOG.write_text(ended.splitlines()[0] + "\n")
    assert [type(block).__name__ for block in display.chapters(state())[0].blocks] == ["Note"] * 3 + ["Table"]
    LOG.write_text(ended)
    attempted("refused", -0.5)
    figure = display.chapters(state())[0].blocks[-1]
    figure.drawing(tmp_path / "climb.png")
    curves = figure.drawing.keywords["panels"][0].curves
    assert curves["rungs"][:, :2] == pytest.approx(np.array([[0, 1], [1, 0.5]]), abs=1e-4)
    # the champion's scores on the seeds of each entry that was refused
    assert (len(curves[display.REFUSED]), curves[display.AGAIN][:, :2].tolist()) == (1, [[2, 1]])


LONG = {"keys": ["train.steps"], "factor": 4}


@pytest.mark.parametrize(("gain", "rungs"), [(0.5, 1), (-0.5, 0)])
def test_a_rung_holds_at_the_longer_training_too(gain, rungs):
    FILE.write_text(yaml.safe_dump(SCORE | {"long": LONG}))
    contest, short = climb.load(FILE), attempted("a", 0.5)
    assert (state().due.key, state().rungs, lines()[-1]["outcome"]) == (short, [], "accepted")
    with climb.hold(contest) as held:
        begin = held.open.begin
    with climb.hold(contest) as held:  # once
        assert (held.open.begin, len(held.attempts)) == (begin, 2)
    assert (begin.long, begin.changes, begin.on) == (True, {"train.steps": 11}, "")
    runs = held.runs(held.open)
    assert {run.arm: run.params["train"]["steps"] for run in runs.planned} == {"champion": 4000, "challenger": 44}
    assert held.open.first_seed != held.find(short).first_seed
    held = finished(gain)
    assert [one.key for one in held.rungs] == [held.attempts[1].key][:rungs]
    assert (held.due, held.attempts[1].cost) == (None, 4 * held.attempts[0].cost)
    assert [one.outcome for one in held.attempts] == ["accepted", "accepted" if rungs else "refused"]
    *_, table, figure = display.chapters(held)[0].blocks
    assert [row[1] for row in table.rows] == ["a", "a, 4 times as long"]
    assert [len(panel.curves["rungs"]) for panel in figure.drawing.keywords["panels"]] == [2, 1 + rungs]


def test_a_longer_training_cannot_be_passed_over_added_or_made_up():
    FILE.write_text(yaml.safe_dump(SCORE | {"long": LONG}))
    attempted("a", 0.5)
    before = LOG.read_text()
    for key, more in (
        ("long: ", {"long": False}),
        ("long: ", {"long": True, "changes": {"train.steps": 12}}),
        ("another champion", {"on": "0" * 16}),
    ):
        line = lines()[0] | {"before": state().tip, "nonce": "1" * 16} | more
        LOG.write_text(before + json.dumps(line) + "\n")
        with pytest.raises(UserError, match=key):
            state()
        LOG.write_text(before)


@pytest.mark.parametrize("change", ["edit", "remove", "swap", "no such attempt", "cut", "not JSON", "another key"])
def test_a_log_that_was_changed_is_noticed(change):
    attempted("a", 0.5)
    attempted("bb", -0.5)
    lines = LOG.read_text().splitlines()
    changed = {
        "edit": [lines[0].replace('"a"', '"c"'), *lines[1:]],
        "remove": [lines[0], *lines[2:]],
        "swap": [*lines[2:], *lines[:2]],
        "no such attempt": [*lines, lines[3].replace(json.loads(lines[3])["before"], files.digest(lines[3])[:16])],
        "cut": [*lines[:-1], lines[-1][:-5]],
        "not JSON": [*lines, "<<<<<<< HEAD"],
        "another key": [*lines, lines[-1].replace('"reason"', '"raison"')],
    }[change]
    LOG.write_text("".join(f"{line}\n" for line in changed))
    with pytest.raises(UserError, match=r"log\.jsonl: "):
        state()


def test_an_end_without_its_runs_does_not_count():
    key = attempted("a", 0.5)
    whole = ROWS.read_text()
    *others, last = whole.splitlines(keepends=True)
    # a row of another score, one of a header with another recipe, half of one, none, and another one's
    for damaged in (
        [*others, last.replace('"classifier.fd":0.49', '"classifier.fd":0.39')],
        [line.replace('"train.steps":11', '"train.steps":99') for line in whole.splitlines(keepends=True)],
        [*others[:-1], others[-1][:100], "\n", last],
        others,
        [*others, last, last.replace(key, "0" * 16)],
    ):
        ROWS.write_text("".join(damaged))
        with pytest.raises(UserError, match=str(ROWS)):
            state()
    ROWS.write_text(whole)
    assert ladder("show", "tiny") == 0
    assert not Path("ladders/tiny/climb.png").exists()  # to draw takes longer than to show
    LOG.unlink()  # an attempt whose lines were cut off is found by its runs
    with pytest.raises(UserError, match="does not have"):
        state()


@pytest.mark.parametrize(
    ("gain", "harm", "given", "written"),
    [
        (-0.5, 0.0, "refused", "accepted"),
        (-0.5, 0.0, "refused", "undecided"),
        (-0.5, 0.0, "refused", "withdrawn"),  # which has no scores
        (0.5, 0.0, "accepted", "refused"),
        (0.5, 0.1, "refused", "accepted"),  # by a guard
    ],
)
def test_an_end_that_its_records_do_not_give_is_refused(capsys, gain, harm, given, written):
    FILE.write_text(yaml.safe_dump(SCORE | {"guards": ["random_conv.kid_mean"]}))
    attempted("a", gain, harm)
    assert state().attempts[0].outcome == given
    LOG.write_text(LOG.read_text().replace(f'"outcome": "{given}"', f'"outcome": "{written}"'))
    assert ladder("show", "tiny") == 2
    assert "log.jsonl: the end of a" in capsys.readouterr().err


def test_an_end_before_its_records_decide_is_refused():
    with pytest.raises(UserError, match="the end of a"):
        attempted("a", 0.5, most=3)


def test_a_rung_that_is_worse_than_a_gaussian_says_so():
    attempted("a", 0.05)
    attempted("bb", 0.5)
    shown = [display.to_dict(state(), one) for one in state().rungs]
    assert [one["gaussian"] for one in shown] == pytest.approx([0.9, 0.9])
    assert ["Gaussian" in one["reason"] for one in shown] == [True, False]


def test_a_champion_that_diverges_ends_the_attempt_undecided():
    climbed, first = rung()
    sides = {
        arm: [made(seed, {"classifier.fd": 2.0 + seed}) for seed in range(3)] for arm in ("champion", "challenger")
    }
    sides["champion"][2] = made(2, {}, "the loss is not finite")
    end, decides = judged(climbed, first, sides)
    assert (decides, end.outcome, len(end.challenger)) == (True, "undecided", 2)
    assert "the champion, seed 2" in end.reason


@pytest.mark.parametrize(
    "change", [{"error": 0.1}, {"base": "digits"}, {"common": {"compare.threshold": 0.9}}, {"long": LONG}]
)
def test_a_ladder_that_has_moved_is_refused(capsys, change):
    attempted("a", 0.5)
    FILE.write_text(yaml.safe_dump(SCORE | {"question": "Reworded?"}))
    state()
    FILE.write_text(yaml.safe_dump(SCORE | change))
    assert ladder("show", "tiny") == 2
    assert "since an attempt" in capsys.readouterr().err


@pytest.mark.parametrize(("key", "line"), [
    ("sample.count", {"changes": {"train.steps": 11, "sample.count": 400}}),
    ("costs", {"changes": {"train.batch_size": 10_000}, "cost": 1.0}),
    ("evaluations", {"changes": {"sample.steps": 1000}}),
    ("train.epochs", {"changes": {"train.steps": None, "train.epochs": 1}}),
    ("line 1: chooses its seeds", {"seed": 1}), ("line 1: chooses its seeds", {"nonce": "", "number": 7}),
])  # fmt: skip
def test_a_line_that_try_would_not_write_is_refused(monkeypatch, key, line):
    FILE.write_text(yaml.safe_dump(SCORE | {"may_change": [*SCORE["may_change"], "sample.steps"]}))
    with monkeypatch.context() as forger:
        forger.setattr(terms.Contest, "check", lambda *_: 1.0)
        forger.setattr(log, "OLDER", MagicMock(__contains__=lambda *_: True))
        attempted("mine", 0.5, **line)
        state()
    with pytest.raises(UserError, match=key):
        state()
