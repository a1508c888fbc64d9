"""A record that is not one of the study's is left out with its file and the reason; the others are judged."""

import json
import shutil
from pathlib import Path

import pytest

from tests import study_project
from tests.study_project import NAMES, PLAN, RESULTS, STUDY, commit, records, study

TINY = str(PLAN)
RUNS = RESULTS / "runs"
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


def changed(**values) -> str:
    return json.dumps(records()[NAME] | values)


DAMAGE = {
    "half": (lambda: changed()[:500], ": restore it from git, or remove it"),
    "made by two people": (lambda: changed().replace("{", "{\n<<<<<<< HEAD\n", 1), "two people"),
    "another plan": (lambda: changed(plan="0" * 64), "another plan"),
    "another arm": ((RUNS / "cosine-1.json").read_text, "another diffusion.schedule"),
    "without the primary metric": (lambda: changed(scores={"classifier.kid_mean": 0.1}), "classifier.fd"),
    "diverged": (lambda: changed(diverged="the loss is not finite", scores={}), "diverged"),
}


@pytest.mark.parametrize(("text", "reason"), DAMAGE.values(), ids=DAMAGE)
def test_one_that_is_damaged_is_left_out(text, reason, finished, capsys):
    path = RUNS / f"{NAME}.json"
    path.write_text(damaged := text())
    assert study("verdict", TINY, "--json", "--table", "table.csv") == 0
    assert [line.split(",")[1] for line in Path("table.csv").read_text().splitlines()] == ["seeds", "1", "1"]
    verdict = json.loads(capsys.readouterr().out)
    assert [arm["seeds"] for arm in verdict["arms"]] == [[0, 1], [0]]
    [note] = [note for note in verdict["notes"] if note.startswith(f"left out: {path}: ")]
    assert reason in note
    assert study("status", TINY, "--json") == 0
    states = {each["name"]: each["state"] for each in json.loads(capsys.readouterr().out)["experiments"]}
    assert states == dict.fromkeys(NAMES, "done") | {NAME: "failed"}
    assert study("run", TINY, "--line", "4") == 1  # neither taken for a finished one nor overwritten
    assert str(path) in capsys.readouterr().err
    assert path.read_text() == damaged
    path.unlink()  # then it runs again
    assert study("run", TINY, "--line", "4") == 0
    assert path.read_text() == (finished / path).read_text()


def test_the_status_of_runs_that_cannot_be_compared_names_the_odd_one(capsys):
    environment = {"processor": "another", "torch": "2.99.0+cpu"}
    for name, run in records().items():
        here = {"processor": "one", "torch": "2.13.0+cu126"} | (environment if name == NAME else {})
        (RUNS / f"{name}.json").write_text(json.dumps(run | {"environment": here}))
    assert study("verdict", TINY) == 2
    assert f"run the odd ones (tiny-{NAME}) again" in capsys.readouterr().err
    assert study("status", TINY, "--json") == 0
    status = json.loads(capsys.readouterr().out)
    assert {each["state"] for each in status["experiments"]} == {"done"}
    for what in ("processor", "torch"):
        assert f"different {what}: cosine " in status["trouble"]
    PLAN.write_text(f"{STUDY}may_differ: [processor, torch]\n")
    assert study("verdict", TINY) == 0


def test_two_records_of_one_arm_and_seed_are_one(capsys):
    for copy in range(1, 7):
        (RUNS / f"{NAME} ({copy}).json").write_text(changed())
    assert study("run", TINY, "--json") == 0
    verdict = json.loads(capsys.readouterr().out)
    assert [arm["seeds"] for arm in verdict["arms"]] == [[0, 1], [0, 1]]
    named = ", ".join(f"{RUNS / NAME} ({copy}).json" for copy in range(1, 4))
    assert any(f"{named} and 3 more" in note for note in verdict["notes"])  # in one order, whichever process says so


@pytest.mark.slow
def test_a_record_of_another_tuned_value_is_left_out(capsys):
    PLAN.write_text(f"{STUDY}tune: {{train.learning_rate: [0.001, 0.01], seeds: 2}}\n")
    commit("a tuned study")
    for path in RUNS.iterdir():
        path.unlink()
    assert study("run", TINY) == 0
    other = records()["cosine-0"]
    tried = {0.001, 0.01} - {other["params"]["train.learning_rate"]}
    other["params"]["train.learning_rate"] = tried.pop()
    (RUNS / "cosine-0.json").write_text(json.dumps(other))
    capsys.readouterr()
    assert study("verdict", TINY, "--json") == 0
    verdict = json.loads(capsys.readouterr().out)
    assert verdict["arms"][0]["seeds"] == [1]
    assert any("cosine-0.json: " in note and "train.learning_rate" in note for note in verdict["notes"])
