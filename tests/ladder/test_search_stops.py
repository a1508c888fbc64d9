"""A search that is stopped, fails or is not alone, and goes on."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from ddpm.base.locks import lock
from ddpm.ladder import attempt, climb, search, terms, trials
from tests.instant import BEST, TRIALS, Instant, find, landscape, lines
from tests.ladders import FILE, contest, trial

pytestmark = pytest.mark.usefixtures("instant")


def test_a_search_that_is_stopped_continues(capsys):
    Instant.patience = 17
    assert find("--trials", "30") == 143
    assert capsys.readouterr().out.startswith("search-1: ")  # before the first run has ended, which may take minutes
    assert len(lines()) == 17
    Instant.patience = math.inf
    assert find("--trials", "30") == 0
    assert len(lines()) == 30
    assert [line["search"] for line in lines()] == [1] * 30


def test_one_process_tries_the_same_again_and_another_one_something_else():
    def tried(patience: float) -> list[tuple]:
        Instant.patience = patience
        if patience < math.inf:
            assert find("--trials", "30", "--slots", "1") == 143
        one = search.Search(of, climb.read(of), 1, 30, None, 1)
        Instant.patience = math.inf
        one.explore(print)
        seen = [(trial.seed, dict(trial.changes), trial.score) for trial in trials.read(of)]
        TRIALS.unlink()
        return seen

    of = contest()
    alone = tried(math.inf)
    Instant.count = 0
    assert tried(17) == alone  # also after a stop
    with lock(climb.LOCKS / "tiny" / "search-0.lock"):
        other = tried(math.inf)
    assert not {seed for seed, *_ in other} & {seed for seed, *_ in alone}
    assert [changes for _, changes, _ in other[:5]] != [changes for _, changes, _ in alone[:5]]


@pytest.mark.parametrize(("hours", "late"), [("0.4", True), ("1.5", False)])
def test_hours_end_a_search_before_the_proof(capsys, monkeypatch, hours, late):
    clock = iter(np.arange(0, 10**6, 50.0))
    monkeypatch.setattr(search.time, "monotonic", lambda: next(clock))
    find("--hours", hours, "--slots", "1")
    # 50 seconds each, in 70% of the hours
    assert len(lines()) == math.ceil(float(hours) * 3600 * search.SEARCHING / 50)
    # the proof takes eight minutes and more
    assert ("more than --hours 0.4 leaves" in capsys.readouterr().out) is late


def test_a_training_that_diverges_is_a_trial_and_a_worker_that_dies_is_not(capsys):
    reasons = iter(["train: the loss or its gradient is not finite at step 3; LOG", "exit code 137: killed"])
    Instant.score = staticmethod(lambda params, seed: next(reasons, None) or landscape(params, seed))
    assert find("--trials", "20", "--slots", "1") == 0
    assert [line["score"] is None for line in lines()] == [True] + [False] * 19
    assert "exit code 137" in capsys.readouterr().out


def test_a_fault_of_every_run_ends_the_search(capsys):
    Instant.score = staticmethod(lambda params, seed: "no space left on device")
    assert find("--trials", "20") == 2
    assert "no space left" in capsys.readouterr().err
    assert (Instant.count, lines()) == (search.FAILURES, [])


def test_a_full_disk_leaves_the_trials_as_they_were(capsys, monkeypatch):
    Instant.patience = 3
    assert find("--trials", "20") == 143
    before = TRIALS.read_text()

    def full(self: Path, *_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Instant, "patience", math.inf)
    monkeypatch.setattr(Path, "write_text", full)
    assert find("--trials", "20") == 2
    assert "No space left" in capsys.readouterr().err
    assert TRIALS.read_text() == before


@pytest.mark.parametrize("line", ["<<<<<<< HEAD", '{"evidence": true}', "[1]"])
def test_a_line_that_is_no_trial_is_named(capsys, line):
    TRIALS.parent.mkdir()
    TRIALS.write_text(f"{line}\n")
    assert find("--trials", "8") == 2
    assert "trials.jsonl: line 1" in capsys.readouterr().err


@pytest.mark.parametrize("slots", ["1", "2"])
def test_no_two_trials_have_the_same_seed_after_a_failure_and_a_stop(slots, monkeypatch):
    """The second run fails, or of two at a time ends last."""
    order = iter(range(10**6))
    fails = {1} if slots == "1" else set()
    score = staticmethod(lambda params, seed: "killed" if next(order) in fails else landscape(params, seed))
    monkeypatch.setattr(Instant, "score", score)
    monkeypatch.setattr(Instant, "last_first", slots == "2")
    Instant.patience = 18
    assert find("--trials", "20", "--slots", slots) == 143
    Instant.patience = math.inf
    find("--trials", "20", "--slots", slots)
    assert len({line["seed"] for line in lines()}) == len(lines()) == 20


@pytest.mark.parametrize("later", [{"guards": ["memorisation"]}, {"guards": [], "primary": "random_conv.fd"}])
def test_trials_of_a_file_that_was_changed_do_not_count(later, monkeypatch):
    """Until the first attempt it may be."""
    monkeypatch.setattr(trials, "guards", lambda of, _: dict.fromkeys(of.terms.guards, 0.0))
    contest(guards=["random_conv.fd", "memorisation"])
    Instant.patience = 6
    assert find("--trials", "20", "--slots", "1") == 143
    of = contest(**later)
    assert search.Search(of, climb.read(of), 1, 20, None, 1).past == []
    assert len(lines()) == 6
    contest(guards=["random_conv.fd", "memorisation"])
    assert len(trials.read(terms.load(FILE))) == 6


@pytest.mark.parametrize("entry", ["hand", "search-1"])
def test_what_was_tried_during_a_search_is_taken_into_account(entry, monkeypatch, capsys):
    """Somebody's attempt becomes the champion, or another process that searches the ladder begins the proof."""
    of, explore = contest(), search.Search.explore

    def explore_while(self, say):
        explore(self, say)
        trials.add(of, trial(of, 1, BEST))
        one = attempt.begin(of, entry, BEST, source="", say=say)
        if entry == "hand":
            attempt.finish(of, one, 1, say)

    monkeypatch.setattr(search.Search, "explore", explore_while)
    find("--trials", "20", "--slots", "1", "--json")
    state, result = climb.read(of), json.loads(capsys.readouterr().out)
    assert result["trials"] == len(lines()) == 21
    if entry == "hand":
        assert state.attempts[0].outcome == "accepted"
        assert result["proof"] is None or of.shorten(result["find"]) in [one["changes"] for one in lines()]
    else:
        assert [one.begin.entry for one in state.attempts] == ["search-1"]
        assert result["find"] == BEST
