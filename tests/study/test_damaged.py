"""A row that is not one of the study's is left out with its place and the reason; the others are judged."""

import json
import shutil
from pathlib import Path

import pytest

from ddpm.runs import rows
from tests import study_project
from tests.study_project import NAMES, PLAN, ROWS, change, records, remove, study

TINY = str(PLAN)
NAME = "linear-1"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A project with a study that is done."""
    folder = tmp_path_factory.mktemp("study") / "project"
    with pytest.MonkeyPatch.context() as monkeypatch:
        study_project.make(folder)
        study_project.enter(folder, monkeypatch)
        assert study("run", TINY) == 0
    return folder


@pytest.fixture(autouse=True)
def project(finished, tmp_path, monkeypatch) -> None:
    shutil.copytree(finished, tmp_path / "project", ignore=shutil.ignore_patterns(".ddpm", "cache"))
    study_project.enter(tmp_path / "project", monkeypatch)


def again(**values: object) -> None:
    """Append the same run, with other values."""
    rows.append(ROWS, records()[NAME] | {"name": f"tiny-{NAME}"} | values)


DAMAGE = {
    "other scores": (lambda: again(scores={"classifier.fd": 1.0}), f"contradicts {ROWS}:"),
    "no record": (lambda: again(scores={}), "not a run's record"),
    "another plan": (lambda: change(NAME, plan="0" * 64), "another plan"),
    "another arm": (lambda: change(NAME, params=records()["cosine-1"]["params"]), "another diffusion.schedule"),
    "without the primary metric": (lambda: change(NAME, scores={"classifier.kid_mean": 0.1}), "classifier.fd"),
    "diverged": (lambda: change(NAME, diverged="the loss is not finite", scores={}), "diverged"),
}


@pytest.mark.parametrize(("damage", "reason"), DAMAGE.values(), ids=DAMAGE)
def test_one_that_is_damaged_is_left_out(damage, reason, capsys):
    whole = records()
    damage()
    damaged = ROWS.read_text()
    assert study("verdict", TINY, "--json", "--table", "table.csv") == 0
    assert [line.split(",")[1] for line in Path("table.csv").read_text().splitlines()] == ["seeds", "1", "1"]
    verdict = json.loads(capsys.readouterr().out)
    assert [arm["seeds"] for arm in verdict["arms"]] == [[0, 1], [0]]
    [note] = [note for note in verdict["notes"] if note.startswith(f"left out: {ROWS}:")]
    assert reason in note
    assert study("status", TINY, "--json") == 0
    states = {each["name"]: each["state"] for each in json.loads(capsys.readouterr().out)["experiments"]}
    assert states == dict.fromkeys(NAMES, "done") | {NAME: "failed"}
    assert study("run", TINY, "--line", "4") == 1  # neither taken for a finished one nor overwritten
    assert f"{ROWS}:" in capsys.readouterr().err
    assert ROWS.read_text() == damaged
    remove(NAME)  # then it runs again
    assert study("run", TINY, "--line", "4") == 0
    assert records() == whole


@pytest.mark.parametrize("end", ["", "\n"])
def test_half_of_a_line_is_no_row_and_nothing_else_is_lost(end, capsys):
    """Its writer was killed, or the disk was full; a whole line after it, as a merge may leave it, is named."""
    *others, last = ROWS.read_text().splitlines(keepends=True)
    half = json.loads(last)["name"].removeprefix("tiny-")
    ROWS.write_text("".join(others) + last[:100] + end)
    assert records().keys() == {*NAMES} - {half}
    assert study("verdict", TINY, "--json") == 0
    notes = json.loads(capsys.readouterr().out)["notes"]
    assert any(f"{ROWS}:{len(others) + 1}: not a row" in note for note in notes) is bool(end)
    assert study("run", TINY) == 0
    assert records().keys() == {*NAMES}
    assert ROWS.read_text().startswith("".join(others))
    assert (last[:100] + "\n" in ROWS.read_text()) is bool(end)
