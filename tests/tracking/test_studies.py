"""A study or a ladder in MLflow: one run for it, and the runs of its rows below, in a real store."""

import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient

from ddpm.ladder import climb, display
from ddpm.runs.rows import Rows
from ddpm.study import publication
from ddpm.tracking import tracker
from tests import command, tracked
from tests.scored import git

ROOT = Path(__file__).parents[2]
STUDY, LADDER = Path("metrics/studies/find_digits"), Path("ladders/short")


@pytest.fixture
def client(folder, empty_store) -> MlflowClient:
    """An empty store in a repository with a study and a ladder that have run."""
    Path("mlflow.db").write_bytes(empty_store)
    for kept in (STUDY, LADDER):
        shutil.copytree(ROOT / kept, kept)
    Path("studies").mkdir()
    for file in ("studies/find_digits.yaml", "ladders/short.yaml"):
        shutil.copy(ROOT / file, file)
    git("init", "--quiet")
    git("commit", "--quiet", "--allow-empty", "-m", "begin")
    return MlflowClient(f"sqlite:///{folder}/mlflow.db")


def runs(client):
    """The run of the whole, and those below it by their titles."""
    everything = client.search_runs([client.get_experiment_by_name("ddpm").experiment_id])
    [parent] = (each for each in everything if tracker.PARENT not in each.data.tags)
    children = {each.info.run_name: each for each in everything if each is not parent}
    assert len(children) == len(everything) - 1
    assert {each.data.tags[tracker.PARENT] for each in children.values()} == {parent.info.run_id}
    return parent, children


def test_a_study_is_a_run_with_its_rows_below_and_nothing_is_sent_twice(client, monkeypatch, capsys):
    # a commit may hold links, to whatever is on the disk of those who pull it: what they lead to is not published
    Path("secret").write_text("hunter2")
    (STUDY / "key.png").symlink_to(Path("secret").resolve())
    printed, log = [], publication.log
    monkeypatch.setattr(publication, "log", lambda *given: (printed.append(capsys.readouterr().out), log(*given)))
    assert command.run("study", "verdict", "find_digits") == 0
    assert str(STUDY / "verdict.md") in printed[0]  # nobody waits for MLflow to see it
    parent, children = runs(client)
    assert (parent.info.run_name, parent.info.status) == ("study find_digits", "FINISHED")
    records = {run.result: run for run in Rows(STUDY / "rows.jsonl").records.values()}
    assert {each.data.tags[tracker.KEY] for each in children.values()} == records.keys()
    for each in children.values():  # a record alone, of which it is not known what else was made
        run = records[each.data.tags[tracker.KEY]]
        assert (each.info.status, each.data.metrics["classifier.fd"]) == ("FINISHED", run.scores["classifier.fd"])
        assert tracked.artifacts(each.info.run_id) == ["metrics/run.json"]
        assert "mlflow.source.git.commit" not in each.data.tags
    answers = (STUDY / "verdict.md").read_text().partition("\n\n![")[0].removeprefix("# ")
    assert parent.data.tags[tracker.NOTE].startswith(answers)
    published = {path.name: path for path in Path("mlartifacts").rglob("*.*") if path.is_file()}
    assert published.keys() >= {"verdict.md", "verdict.json", "verdict.png"}
    assert [name for name, path in published.items() if b"hunter2" in path.read_bytes()] == []
    assert command.run("study", "verdict", "find_digits") == 0
    again, others = runs(client)
    before, after = ([one, *rows.values()] for one, rows in ((parent, children), (again, others)))
    assert {one.info.run_id for one in before} == {one.info.run_id for one in after}
    one = next(iter(children.values()))
    assert len(client.get_metric_history(one.info.run_id, "classifier.fd")) == 1


def test_a_ladder_is_a_run_with_its_attempts_below(client):
    state = climb.read(climb.load(LADDER.with_suffix(".yaml")))
    display.log(state)
    parent, children = runs(client)
    assert (parent.data.tags["ddpm.ladder"], parent.info.status) == ("short", "FINISHED")
    assert state.contest.terms.question in parent.data.tags[tracker.NOTE]
    assert "search.md" in {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert len(children) == len(state.contest.rows.records)
    assert {title.partition("-")[0] for title in children if title.endswith("search-1")} == {"champion", "challenger"}
