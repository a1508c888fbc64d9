"""A search that is stopped, fails or is not alone, and goes on."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from ddpm.arms import revision
from ddpm.base.errors import UserError
from ddpm.base.locks import lock
from ddpm.ladder import attempt, climb, search, trials
from ddpm.ladder.trials import Trials
from tests.instant import BEST, TRIALS, Instant, find, landscape, lines
from tests.ladders import contest, trial
from tests.pages import Page

pytestmark = pytest.mark.usefixtures("instant")


def test_one_process_tries_the_same_again_and_another_one_something_else():
    def tried(patience: float) -> list[tuple]:
        Instant.patience = patience
        if patience < math.inf:
            assert find("--trials", "10", "--slots", "1") == 143
        one = search.Search(of, climb.read(of), 1, 10, None, 1)
        Instant.patience = math.inf
        one.explore(print, lambda _: None)
        seen = [(trial.seed, dict(trial.changes), trial.score) for trial in Trials(of).read().values()]
        assert len(lines()) == 10
        TRIALS.unlink()
        return seen

    of = contest()
    alone = tried(math.inf)
    seeds = [seed for seed, *_ in alone]
    assert min(seeds) >= 2**40  # which no attempt can have
    assert len({*seeds}) == search.RUNS  # recipes share them
    Instant.count = 0
    assert tried(5) == alone  # also after a stop
    with lock(climb.LOCKS / "tiny" / "search-0.lock"):
        other = tried(math.inf)
    assert [changes for _, changes, _ in other[:5]] != [changes for _, changes, _ in alone[:5]]


@pytest.mark.slow
@pytest.mark.parametrize(("hours", "late"), [("0.4", True), ("1.5", False)])
def test_hours_end_a_search_before_the_proof(capsys, monkeypatch, hours, late):
    clock = iter(np.arange(0, 10**6, 50.0))
    monkeypatch.setattr(search.time, "monotonic", lambda: next(clock))
    find("--hours", hours, "--slots", "1")
    # 50 seconds each, in 70% of the hours
    assert len(lines()) == math.ceil(float(hours) * 3600 * search.SEARCHING / 50)
    # the proof takes eight minutes and more
    assert ("more than --hours 0.4 leaves" in capsys.readouterr().out) is late


def test_hours_end_a_run_that_goes_on(capsys, monkeypatch):
    clock, order = iter(np.arange(0, 10**6, 50.0)), iter(range(10**6))
    monkeypatch.setattr(search.time, "monotonic", lambda: next(clock))
    Instant.score = staticmethod(lambda params, seed: None if next(order) == 2 else landscape(params, seed))
    assert find("--hours", "0.1", "--slots", "1") in (0, 1, 3)
    assert "--hours 0.1 are over: 1 run stopped" in capsys.readouterr().out
    assert len(lines()) == 2


def test_the_first_line_comes_before_the_log_is_read_and_after_git_was_asked(capsys, monkeypatch):
    def read(of):
        raise SystemExit(7)

    def check(*_):
        raise UserError("not committed")

    contest()
    monkeypatch.setattr(climb, "read", read)
    assert find("--trials", "8") == 7
    assert "ladders/tiny.yaml: searching by classifier.fd, lower" in capsys.readouterr().out
    assert find() == 2  # it has no end
    monkeypatch.setattr(revision, "check_committed", check)
    assert find("--trials", "8") == 2
    assert "not committed" in capsys.readouterr().err


def test_nothing_is_proved_that_is_worse_than_a_gaussian(capsys):
    Instant.score = staticmethod(lambda params, seed: 20.0)
    contest(ideas=[{"diffusion.loss.name": "p2"}])
    assert find("--trials", "8", "--slots", "1", "--json") == 1
    said = capsys.readouterr()
    result = json.loads(said.out)
    shown = [line for line in said.err.splitlines() if line.startswith(("trial ", "so far"))]
    assert [line[:6] for line in shown].index("so far") == 2  # after the champion and the idea
    assert "Gaussian" in shown[2]
    assert (result["proof"], result["find"], result["claim"]) == (None, {}, None)
    assert "Gaussian" in result["reason"]
    assert not Path("ladders/tiny/log.jsonl").exists()
    assert [line["yardstick"] for line in lines()] == [9.0] * 8


def test_a_line_says_what_a_trial_was(capsys, monkeypatch):
    clock, runs = iter(np.arange(0, 10**6, 50.0)), iter(range(10**6))
    monkeypatch.setattr(search.time, "monotonic", lambda: next(clock))
    Instant.score = staticmethod(lambda params, seed: 1.0 if (run := next(runs)) == 0 else 3.0 + run / 100)
    contest(ideas=[BEST])
    assert find("--trials", "12", "--slots", "1") in (0, 1, 3)
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("trial ")]
    assert all("FD " in line and "lower is better" in line and "a Gaussian 9" in line for line in said)
    for line, shown in (
        (0, "the champion; best 1;"),
        (1, "known: loss p2, "),
        (-1, "again: "),
        (-1, "a mean of 3 runs"),
    ):
        assert shown in said[line]
    assert all("again: " not in line for line in said[:3])


def test_the_page_of_a_search_is_read_again_while_it_runs_and_says_that_it_was_stopped():
    seen, page = list[str](), Path("ladders/tiny/page.html")
    # what there is before a run has ended
    Instant.score = staticmethod(lambda params, seed: seen.append(page.read_text()) or landscape(params, seed))
    Instant.patience = 5
    assert find("--trials", "20", "--slots", "1") == 143
    assert all('<meta http-equiv="refresh"' in text for text in seen)
    assert "refresh" not in page.read_text()
    assert Page(page.read_text()).missing == ["stopped: run the same command again to continue"]


def test_a_training_that_diverges_is_a_trial_and_a_worker_that_dies_is_not(capsys):
    ends = iter([math.nan, "exit code 137: killed"])
    Instant.score = staticmethod(lambda params, seed: next(ends, None) or landscape(params, seed))
    assert find("--trials", "20", "--slots", "1") == 0
    assert [line["score"] is None for line in lines()] == [True] + [False] * 19
    assert "exit code 137" in capsys.readouterr().out


def test_a_fault_of_every_run_ends_the_search(capsys):
    Instant.score = staticmethod(lambda params, seed: "no space left on device")
    assert find("--trials", "20") == 2
    assert "no space left" in capsys.readouterr().err
    assert (Instant.count, lines()) == (search.FAILURES, [])


@pytest.mark.parametrize(("line", "named"), [
    ("<<<<<<< HEAD", "line 1"), ('{"evidence": true}', "evidence"), ("[1]", "line 1"), ("\0" * 100, "line 1"),
    ('{"changes": ' + "[" * 10**5 + "]" * 10**5 + "}", "line 1"), ({"score": math.nan}, "score"),
    ({"changes": {"train.steps": 10**9}}, "costs"), ({"changes": {"train.steps": 10**400}}, "line 1"),
    ({"changes": {"data.source": "/etc"}}, "data.source"),
    ({"changes": {"seed": 5}}, "seed"), ({"changes": {"train": 5}}, "train"), ({"guards": {"x": 1.0}}, "guards"),
    ({"changes": {"train.learning_rate": "\x1b[2J<script>"}}, "train.learning_rate"),
    ({"length": 0.1}, "length"), ({"length": 2.0}, "length"), ({"length": None}, "length"),
    ({"changes": {"train.nosuch": "a\u2028b"}}, "train.nosuch"), ({"changes": {"train.start_from": "x"}}, "start_from"),
])  # fmt: skip
def test_a_line_that_may_not_be_tried_is_left_out_and_named(line, named):
    of = contest()
    if isinstance(line, dict):
        line = json.dumps(trial(of, 1, {}, 0.1).model_dump(mode="json") | line, ensure_ascii=False)
    TRIALS.parent.mkdir()
    TRIALS.write_text(f"{line}\n", encoding="utf-8")
    file = Trials(of)
    assert file.read() == {}
    (reason,) = file.refused
    assert f"{TRIALS}: line 1" in reason
    assert named in reason


@pytest.mark.parametrize("make", [
    lambda path: path.symlink_to("/dev/zero"), Path.mkdir,
    lambda path: path.symlink_to("/etc/passwd"), lambda path: path.write_text("\n" * (trials.LARGEST + 1)),
])  # fmt: skip
def test_a_file_that_is_not_one_of_trials_is_refused(make):
    TRIALS.parent.mkdir()
    make(TRIALS)
    with pytest.raises(UserError, match=str(TRIALS)):
        Trials(contest()).read()


def test_lines_of_others_are_not_this_searchs(capsys):
    """Lines say that a recipe, and some beyond the space, are the best; the search makes all of its own trials, and
    proves what those show. The costs that lines have are computed. A line that is none is named, and left out."""
    of, praised = contest(), {"diffusion.loss.name": "min_snr"}
    beyond = [{"model.unet.base_channels": 4096}, {"train.learning_rate": 0.4}, {"diffusion.loss.name": "contrastive"}]
    changes = [praised, *beyond] * 3
    lie = [trial(of, k, each, 0.001) for k, each in enumerate(changes)]
    lie = [line.model_copy(update={"cost": 1.0, "seconds": 1e9}) for line in lie]
    TRIALS.parent.mkdir()
    odd = lie[0].model_dump(mode="json") | {"changes": {"train.learning_rate": "\x1b[2J<script>"}}
    TRIALS.write_text("".join(f"{json.dumps(one)}\n" for one in [*(one.model_dump(mode="json") for one in lie), odd]))
    assert {one.cost for one in Trials(of).read().values()} == {10240.0}
    find("--trials", "12", "--slots", "1", "--json")
    said = capsys.readouterr()
    (left_out,) = [line for line in said.err.split("\n") if line.startswith("left out: ")]
    assert left_out.isprintable()
    result, own = json.loads(said.out), [line["changes"] for line in lines()[13:]]
    assert result["trials"] == len(own) == 12
    assert not any(one.items() >= each.items() for one in own for each in beyond)
    assert result["claim"] is None or result["claim"] > 0.1


@pytest.mark.parametrize("slots", ["1", "2"])
def test_no_recipe_runs_twice_on_a_seed_after_a_failure_and_a_stop(slots, monkeypatch):
    """The second run fails, or of two at a time ends last."""
    order = iter(range(10**6))
    fails = {1} if slots == "1" else set()
    score = staticmethod(lambda params, seed: "killed" if next(order) in fails else landscape(params, seed))
    monkeypatch.setattr(Instant, "score", score)
    monkeypatch.setattr(Instant, "last_first", slots == "2")
    Instant.patience = 10
    assert find("--trials", "12", "--slots", slots) == 143
    Instant.patience = math.inf
    find("--trials", "12", "--slots", slots)
    runs = {(json.dumps(line["changes"]), line["seed"]) for line in lines()}
    assert len(runs) == len(lines()) == 12


@pytest.mark.parametrize("later", [{"guards": ["memorisation"]}, {"guards": [], "primary": "random_conv.fd"}])
def test_trials_of_a_file_that_was_changed_do_not_count(later):
    """Until the first attempt it may be."""
    before = {"guards": ["random_conv.fd", "memorisation"]}
    of = contest(**before)
    trials.add(of, trial(of, 1, {}).model_copy(update={"guards": {"random_conv.fd": 1.0, "memorisation": 0.0}}))
    assert Trials(contest(**later)).read() == {}
    assert len(Trials(contest(**before)).read()) == 1


@pytest.mark.parametrize("entry", ["hand", "search-1"])
def test_what_was_tried_during_a_search_is_taken_into_account(entry, monkeypatch, capsys):
    """Somebody's attempt becomes the champion, or another process that searches the ladder begins the proof."""
    of, explore = contest(), search.Search.explore

    def explore_while(self, say, show):
        explore(self, say, show)
        trials.add(of, trial(of, 1, BEST))
        one = attempt.begin(of, entry, BEST, source="", say=say)
        if entry == "hand":
            attempt.finish(of, one, 1, say, lambda _: None)

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
