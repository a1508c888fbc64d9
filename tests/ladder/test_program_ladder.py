"""Ladders about a program, from its commands to the log: entries by value and by commit, and what goes wrong."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ddpm.base.errors import UserError
from ddpm.ladder import climb
from ddpm.programs.program import LARGEST_SEED
from tests.command import run
from tests.programs.repository import FILE, LADDER, calls, commit, log, train, write
from tests.study_project import git

pytestmark = pytest.mark.usefixtures("repository")


def mistake(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The line of a command that must fail by a mistake."""
    capsys.readouterr()
    assert run(*arguments) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


def ladder(**changes: object) -> None:
    write(FILE, LADDER | changes)


def attempt(*more: str) -> int:
    """The exit code of an attempt, whose log is then committed."""
    code = run("ladder", "try", "mine", *more)
    commit()
    return code


def idea(**changes: object) -> str:
    return write(Path("ideas/idea.yaml"), changes)


def test_an_entry_changes_values():
    assert attempt(idea(lr=0.1)) == 0
    pairs = [*zip(calls()[::2], calls()[1::2], strict=True)]
    assert all(one[0] == other[0] for one, other in pairs)  # the sides take turns, and neither is always the first
    assert {one[1] for one, _ in pairs} == {"0.5", "0.1"}
    assert attempt(idea(lr=0.3)) == 1
    assert attempt(idea(width=9)) == 1
    state = climb.read(climb.load(FILE))
    assert [one.outcome for one in state.attempts] == ["accepted", "refused", "refused"]
    assert state.changes == {"lr": 0.1}
    assert {tuple(call[1:]) for call in calls()} == {("0.5", "8"), ("0.1", "8"), ("0.3", "8"), ("0.1", "9")}
    assert all(0 <= int(seed) <= LARGEST_SEED for seed, *_ in calls())


@pytest.mark.slow
def test_an_entry_is_the_commit_that_is_checked_out(capsys):
    train("print('val_loss:', lr / 2 + noise)")
    git("commit", "--quiet", "--amend", "--message=Half the rate\n\nas it says")
    better = git("rev-parse", "HEAD").strip()
    assert attempt("--json") == 0
    assert f"| {better[:10]} (Half the rate) |" in Path("ladders/mine/climb.md").read_text()
    shown = json.loads(capsys.readouterr().out)
    assert (shown["outcome"], shown["changes"]) == ("accepted", {"commit": better})
    train("print('val_loss:', lr + noise)")
    assert attempt() == 1
    assert attempt(idea(commit=better, lr=0.1)) == 0
    assert climb.read(climb.load(FILE)).champion.begin.changes == {"commit": better, "lr": 0.1}


@pytest.mark.slow
def test_a_search_finds_and_proves(capsys):
    assert run("ladder", "search", "mine", "--trials", "8", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["find"]["lr"] < 0.5
    assert (result["trials"], result["proof"]["outcome"]) == (8, "accepted")
    proof = result["proof"]["first_seed"]
    seeds = {int(seed) for seed, *_ in calls()}
    assert {seed > LARGEST_SEED // 2 for seed in seeds - {*range(proof, proof + 24)}} == {True}
    commit()
    assert run("ladder", "show", "mine", "--json") == 0


def test_a_short_trial_has_a_share_of_the_values_that_the_file_names():
    before = climb.load(FILE).identity
    ladder(lengths={"keys": ["width"], "shares": [0.05, 0.25]}, space={"lr": [0.1]}, ideas=[{"lr": 0.2}])
    of = climb.load(FILE)
    values = [of.trial({"lr": 0.3}, 5, length) for length in of.lengths]
    assert [(one["lr"], one["width"]) for one in values] == [(0.3, 1), (0.3, 2), (0.3, 8)]
    assert of.identity["terms"] == before["terms"]  # what a search tries may change when there are attempts


def test_what_is_accepted_is_tried_longer_at_once(capsys):
    """Exit code and answer are those of the longer attempt."""
    train("print('val_loss:', (lr if width < 16 else 0.5) + noise)")
    ladder(long={"keys": ["width"], "factor": 2})
    commit()
    assert attempt(idea(lr=0.1), "--json") == 1
    shown = json.loads(capsys.readouterr().out)
    assert (shown["length"], shown["outcome"]) == (2, "refused")
    short, long = climb.read(climb.load(FILE)).attempts
    assert (short.outcome, short.rung, long.rung) == ("accepted", None, None)
    by_width = [{seed for seed, _, width in calls() if width == asked} for asked in ("8", "16")]
    assert len(by_width[0] | by_width[1]) == len(by_width[0]) + len(by_width[1])
    assert {lr for _, lr, width in calls() if width == "16"} == {"0.5", "0.1"}
    assert "a longer" not in mistake(capsys, "ladder", "withdraw", "mine")


@pytest.mark.slow
def test_an_attempt_goes_on_after_a_stop_and_a_commit_of_its_log():
    """No run is made twice but the one that was stopped."""
    train("import time; time.sleep(0.05); print('val_loss:', lr / 2 + noise)")
    with subprocess.Popen(
        [sys.executable, "-c", "from ddpm.cli import main; main(['ladder', 'try', 'mine'])"], process_group=0
    ) as process:
        while len(calls()) < 4:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
    assert process.returncode == 143
    commit()
    assert attempt() == 0
    assert len(log()) == 2
    assert len(calls()) <= len({tuple(call) for call in calls()}) * 2 + 1  # the sides' arguments are alike


def test_a_guard_refuses():
    ladder(guards={"memory": "lower"})
    assert attempt(idea(lr=0.1, width=80)) == 1
    assert "memory" in log()[-1]["reason"]


def test_one_run_decides_where_the_seed_changes_nothing(capsys):
    train("print('val_loss:', lr)")
    ladder(deterministic=True)
    assert attempt(idea(lr=0.1)) == 0
    assert attempt(idea(lr=0.2)) == 1
    assert attempt(idea(lr=0.1, width=9), "--json") == 1
    assert len(calls()) == 6


@pytest.mark.parametrize(("more", "says"), [("sys.exit(3)", "exit code 3"), ("import time; time.sleep(60)", "minutes")])
def test_a_challenger_that_fails_is_refused(more, says):
    ladder(minutes=0.02)
    train(more)
    assert attempt() == 1
    assert says in log()[-1]["reason"]


def test_a_champion_that_crashes_loses_nothing(monkeypatch, capsys):
    train("sys.exit(os.environ.get('BROKEN') == '1')")
    ladder(minutes=1)
    monkeypatch.setenv("BROKEN", "1")
    train("print('val_loss:', lr / 2 + noise)")
    assert "exit code 1" in mistake(capsys, "ladder", "try", "mine")
    assert len(log()) == 1
    monkeypatch.setenv("BROKEN", "0")
    commit()
    assert attempt() == 0
    assert len(log()) == 2


def test_a_program_that_ignores_its_seed_is_no_evidence(capsys):
    train("print('val_loss:', lr)")
    ladder(minutes=1)
    train("print('val_loss:', lr / 2)")
    assert "deterministic" in mistake(capsys, "ladder", "try", "mine")
    assert len(calls()) == 6
    assert len(log()) == 1
    assert run("ladder", "withdraw", "mine") == 3


def test_a_search_of_a_program_that_always_fails_needs_no_more_trials(capsys):
    train("sys.exit('no disk')")
    ladder(minutes=1)
    assert run("ladder", "search", "mine", "--trials", "4") == 1
    shown, printed = capsys.readouterr()
    assert f"runs python -SE train.py {calls()[0][0]} 0.5 8 in a copy of commit" in printed
    assert shown.count("exit code 1: no disk") == 4
    assert "no trial has a score" in shown
    assert not any(words in shown for words in ("more trials", "diverged"))


def test_what_is_not_committed_does_not_run(capsys):
    entry = idea(lr=0.1)
    Path("train.py").write_text("")
    assert "train.py" in mistake(capsys, "ladder", "try", "mine")
    git("checkout", "--quiet", "train.py")
    FILE.write_text(FILE.read_text() + "\n")
    assert "mine.yaml" in mistake(capsys, "ladder", "search", "mine", "--trials", "4")
    assert "mine.yaml" in mistake(capsys, "ladder", "try", "mine", entry)
    git("rm", "--quiet", "--force", "--cached", str(FILE))
    git("commit", "--quiet", "--message=x")
    assert str(FILE) in mistake(capsys, "ladder", "search", "mine", "--trials", "4")
    assert not calls()


def test_a_mistake_in_an_entry_or_the_file_runs_nothing(capsys):
    assert "champion" in mistake(capsys, "ladder", "try", "mine")
    for changes, says in (
        ({"rate": 1}, "rate"), ({"lr": [1]}, "lr"), ({"lr": None}, "lr"), ({"commit": "gone"}, "commit"),
        ({"lr": 0.5}, "champion"), ({}, "champion"),
    ):  # fmt: skip
        assert says in mistake(capsys, "ladder", "try", "mine", idea(**changes), "--json")
    for changes, says in (
        ({"space": {}}, "space"), ({"space": {"rate": [1]}}, "rate"), ({"space": {"lr": 3}}, "space"),
        ({"better": "up"}, "better"),
    ):  # fmt: skip
        ladder(**changes)
        assert says in mistake(capsys, "ladder", "search", "mine", "--trials", "4")
    assert not calls()


def test_what_an_attempt_leaves(capsys):
    """Its log and rows, to be committed before the next; which can be made again, and nobody can change."""
    assert run("ladder", "try", "mine", idea(lr=0.1)) == 0
    Path("ideas/idea.yaml").write_text("lr: 0.05")
    assert "log.jsonl" in mistake(capsys, "ladder", "try", "mine", "ideas/idea.yaml")
    commit()
    assert not git("status", "--porcelain")
    seen = {name for name in git("ls-files").split() if not name.startswith(("ideas/", "ladders/mine/climb"))}
    assert seen == {
        "train.py", "studies/rates.yaml", "ladders/mine.yaml", "ladders/mine/log.jsonl", "ladders/mine/rows.jsonl",
    }  # fmt: skip
    assert run("ladder", "audit", "mine", "-n", "2") == 0
    assert capsys.readouterr().out.count("the same") == 2
    assert run("ladder", "params", "mine", "x") == 2
    assert "a program has no params.yaml" in mistake(capsys, "preset", "--ladder", "mine")
    rows = Path("ladders/mine/rows.jsonl")
    whole = rows.read_text()
    rows.write_text(whole.replace('"val_loss":0.1', '"val_loss":0.2'))
    assert "rows.jsonl" in mistake(capsys, "ladder", "show", "mine")
    rows.write_text(whole)
    ladder(run="python -SE train.py {seed} {lr} {width} # more")
    assert "mine.yaml" in mistake(capsys, "ladder", "show", "mine")


def test_a_commit_that_somebody_put_into_a_log_is_no_argument_of_git():
    for odd in ("--output=gone", "HEAD", "x" * 40, 7):
        with pytest.raises(UserError, match="commit"):
            climb.load(FILE).check({"commit": odd}, {}, "a log", allow_null=True)


def test_outside_git(tmp_path, monkeypatch, capsys):
    (tmp_path / "other/ladders").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "other")
    FILE.write_text(Path("../repo/ladders/mine.yaml").read_text())
    assert "git" in mistake(capsys, "ladder", "try", "mine")
    git("init", "--quiet", "--template=")
    assert run("ladder", "try", "mine") == 2
