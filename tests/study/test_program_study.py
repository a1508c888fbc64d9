"""Studies of a program: arms by value and by commit, and what goes wrong."""

import json
from pathlib import Path

import pytest

from tests.command import run
from tests.programs.repository import PLAN, STUDY, calls, commit, train, write
from tests.study_project import git

ROWS = Path("metrics/studies/rates/rows.jsonl")
pytestmark = pytest.mark.usefixtures("repository")


def study(*arguments: object, **changes: object) -> int:
    """The exit code of ``ddpm study``, on the study with changes if there are any."""
    if changes:
        write(PLAN, STUDY | changes)
    return run("study", *arguments)


def mistake(capsys: pytest.CaptureFixture[str], *arguments: object, **changes: object) -> str:
    capsys.readouterr()
    assert study(*arguments, **changes) == 2
    *_, line = capsys.readouterr().err.splitlines()
    return line


def test_arms_by_value_and_by_commit(capsys):
    first = git("rev-parse", "HEAD").strip()
    second = train("print('val_loss:', 2 * lr + noise)")
    arms = {"now": {}, "before": {"commit": first}, "slow": {"lr": 0.1, "commit": second[:12]}}
    assert study("run", "rates", "--json", arms=arms) == 0
    shown = json.loads(capsys.readouterr().out)
    assert {one["arm"]: one["outcome"] for one in shown["verdicts"]} == {"before": "better", "slow": "better"}
    assert len(calls()) == 18
    for command in ("status", "verdict"):
        assert study(command, "rates", "--json") == 0
    assert study("audit", "rates", "-n", "1") == 0
    assert len(calls()) == 19


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"arms": {"a": {}}}, "arms"),
        ({"arms": {"a": {}, "b": {"rate": 1}}}, "rate"),
        ({"arms": {"a": {}, "b": {"commit": "gone"}}}, "commit"),
        ({"deterministic": True}, "deterministic"),
    ],
)
def test_a_file_with_a_mistake(changes, key, capsys):
    assert key in mistake(capsys, "run", "rates", **changes)
    assert not calls()


def test_what_is_not_committed_does_not_run(capsys):
    Path("train.py").write_text("")
    assert "train.py" in mistake(capsys, "run", "rates")
    git("checkout", "--quiet", "train.py")
    PLAN.write_text(PLAN.read_text() + "\n")
    assert "rates.yaml" in mistake(capsys, "run", "rates")
    assert not calls()


def test_only_what_is_missing_runs_with_the_code_of_the_first_run(capsys):
    assert study("run", "rates", "--line", "1") == 0
    commit()
    train("sys.exit(lr == 0.1)")
    assert "checked out" in mistake(capsys, "run", "rates")
    git("revert", "--no-edit", "HEAD")
    assert study("run", "rates", "--slots", "2") == 0
    assert len(calls()) == len({tuple(call) for call in calls()}) == 12


def test_a_program_that_ignores_its_seed_is_no_evidence(capsys):
    train("print('val_loss:', lr)")
    assert "in a ladder with deterministic: true" in mistake(capsys, "run", "rates")
    assert len(calls()) == 12


def test_a_commit_that_somebody_put_into_a_row_is_no_argument_of_git(capsys):
    assert study("run", "rates", "--line", "1") == 0
    ROWS.write_text(ROWS.read_text().replace(git("rev-parse", "HEAD").strip(), "--output=gone"))
    assert study("status", "rates") == 0
    assert not list(Path().rglob("gone*"))
