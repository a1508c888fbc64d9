"""A study or a ladder in MLflow: one run for it, and the runs of its experiments or attempts below, in a real store."""

import shutil
from pathlib import Path
from unittest.mock import Mock

import pygit2
import pytest
from mlflow import MlflowClient

from ddpm.ladder import climb, display, terms
from ddpm.study import publication
from ddpm.tracking import tracker
from tests import study_project, tracked
from tests.study_project import PLAN, RESULTS, ROOT, study

LADDER = Path("ladders/short.yaml")


@pytest.fixture
def client(folder, empty_store, monkeypatch) -> MlflowClient:
    """An empty store in the working folder."""
    Path("mlflow.db").write_bytes(empty_store)
    for name in ("DDPM_TRACKING", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    return MlflowClient(f"sqlite:///{folder}/mlflow.db")


@pytest.fixture
def climbed(client) -> terms.Contest:
    """A ladder that was climbed."""
    shutil.copytree(ROOT / "ladders/short", "ladders/short")
    shutil.copy(ROOT / LADDER, LADDER)
    pygit2.init_repository(".")
    return climb.load(LADDER)


def runs(client):
    """The run of the whole, and those below it by the first word of their titles."""
    everything = client.search_runs([client.get_experiment_by_name("ddpm").experiment_id])
    [parent] = (each for each in everything if tracker.PARENT not in each.data.tags)
    children = {each.info.run_name.split(" · ")[0]: each for each in everything if each is not parent}
    assert len(children) == len(everything) - 1
    assert {each.data.tags[tracker.PARENT] for each in children.values()} == {parent.info.run_id}
    return parent, children


def test_a_study_is_a_run_with_its_experiments_below_and_nothing_is_sent_twice(client, folder, monkeypatch, capsys):
    study_project.make(folder)
    monkeypatch.setenv("DDPM_TRACKING", "off")
    for line in "12":
        assert study("run", str(PLAN), "--line", line) == 0
    monkeypatch.delenv("DDPM_TRACKING")
    printed, log = [], publication.log
    monkeypatch.setattr(publication, "log", lambda ledger: (printed.append(capsys.readouterr().out), log(ledger)))
    assert study("verdict", str(PLAN)) == 0
    assert str(RESULTS / "verdict.md") in printed[0]  # nobody waits for MLflow to see it
    parent, children = runs(client)
    assert (parent.info.run_name, parent.info.status) == ("study tiny", "FINISHED")
    assert parent.data.tags["ddpm.primary"] == "classifier.fd"
    scores = {name.split()[0]: each.data.metrics["classifier.fd"] for name, each in children.items()}
    assert scores == {"cosine-0": 2, "linear-0": 3}
    assert {each.info.status for each in children.values()} == {"FINISHED"}
    for each in children.values():  # a record alone, of which it is not known what else was made
        assert tracked.artifacts(each.info.run_id) == ["metrics/run.json"]
        assert "mlflow.source.git.commit" not in each.data.tags
    # a commit may hold links, to whatever is on the disk of those who pull it: what they lead to is not published
    Path("secret").write_text("hunter2")
    for name in ("cosine.png", "key.txt"):
        (RESULTS / name).unlink(missing_ok=True)
        (RESULTS / name).symlink_to(Path("secret").resolve())
    assert study("run", str(PLAN)) == 0
    again, others = runs(client)
    assert again.info.run_id == parent.info.run_id
    assert len(others) == 4
    assert {each.info.run_id for each in others.values()} > {each.info.run_id for each in children.values()}
    one = next(each for name, each in children.items() if name.startswith("cosine-0"))
    assert len(client.get_metric_history(one.info.run_id, "classifier.fd")) == 1
    answers = (RESULTS / "verdict.md").read_text().partition("\n## ")[0].removeprefix("# ")
    assert "linear is inconclusive" in answers
    assert again.data.tags[tracker.NOTE].startswith(answers)
    published = {path.name: path for path in Path("mlartifacts").rglob("*.*") if path.is_file()}
    assert published.keys() >= {"verdict.md", "verdict.json", "linear.png"}
    assert [name for name, path in published.items() if b"hunter2" in path.read_bytes()] == []
    left = study_project.git("status", "--porcelain", "--untracked-files=all").splitlines()
    assert {path.split()[1].partition("/")[0] for path in left} == {"metrics", "mlartifacts", "mlflow.db", "secret"}


def test_a_ladder_is_a_run_with_its_attempts_below_and_nothing_is_sent_twice(client, climbed, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "log_text", Mock(side_effect=OSError("cut off in a run")))
        display.log(climb.read(climbed))
    display.log(climb.read(climbed))
    parent, children = runs(client)
    assert (parent.data.tags["ddpm.ladder"], parent.info.status) == ("short", "FINISHED")
    assert climbed.terms.question in parent.data.tags[tracker.NOTE]
    assert "search.md" in {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert len(children) == len(climbed.rows.records)
    assert {title.partition("-")[0] for title in children if title.endswith("search-1")} == {"champion", "challenger"}
    display.log(climb.read(climbed))
    _, again = runs(client)
    assert {one.info.run_id for one in again.values()} == {one.info.run_id for one in children.values()}
