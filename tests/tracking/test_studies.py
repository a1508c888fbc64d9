"""A study in MLflow: one run for it, and its experiments' runs below, in a real store."""

from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from ddpm.tracking import tracker
from tests import study_project, tracked
from tests.study_project import PLAN, RESULTS, study

STORE = Path("mlflow.db")


@pytest.fixture
def client(tmp_path, empty_store, monkeypatch) -> MlflowClient:
    """The store of a project in which two experiments of the study have run."""
    study_project.make(tmp_path)
    study_project.enter(tmp_path, monkeypatch)
    for line in "12":
        assert study("run", str(PLAN), "--line", line) == 0
    STORE.write_bytes(empty_store)
    for name in ("DDPM_TRACKING", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    return MlflowClient(f"sqlite:///{tmp_path / STORE}")


def sync() -> None:
    assert study("verdict", str(PLAN)) == 0


def runs(client: MlflowClient) -> tuple[Run, dict[str, Run]]:
    """The study's run, and those below it by the experiment's name."""
    everything = client.search_runs([client.get_experiment_by_name("ddpm").experiment_id])
    [parent] = (each for each in everything if tracker.PARENT not in each.data.tags)
    return parent, {each.info.run_name.split()[0]: each for each in everything if each is not parent}


def test_a_study_is_a_run_with_its_experiments_below_and_nothing_is_sent_twice(client):
    sync()
    parent, children = runs(client)
    assert (parent.info.run_name, parent.info.status) == ("study tiny", "FINISHED")
    assert parent.data.tags["ddpm.primary"] == "classifier.fd"
    assert {name: each.data.metrics["classifier.fd"] for name, each in children.items()} == {
        "cosine-0": 2, "linear-0": 3,
    }  # fmt: skip
    assert {each.data.tags[tracker.PARENT] for each in children.values()} == {parent.info.run_id}
    assert {each.info.status for each in children.values()} == {"FINISHED"}
    for each in children.values():  # a record alone, of which it is not known what else was made
        assert tracked.artifacts(each.info.run_id) == ["metrics/run.json"]
        assert "mlflow.source.git.commit" not in each.data.tags
    sync()
    again, others = runs(client)
    assert again.info.run_id == parent.info.run_id
    assert {each.info.run_id for each in others.values()} == {each.info.run_id for each in children.values()}
    assert len(client.get_metric_history(children["cosine-0"].info.run_id, "classifier.fd")) == 1
    left = study_project.git("status", "--porcelain", "--untracked-files=all").splitlines()
    assert {path.split()[1].partition("/")[0] for path in left} == {"metrics", "mlartifacts", "mlflow.db"}


def test_the_study_s_page_has_the_answers_and_its_artifacts_the_rest(client):
    assert study("run", str(PLAN)) == 0
    parent, children = runs(client)
    assert len(children) == 4
    answers = (RESULTS / "verdict.md").read_text().partition("\n## ")[0].removeprefix("# ")
    assert "linear is inconclusive" in answers
    assert parent.data.tags[tracker.NOTE].startswith(answers)
    assert {"verdict.md", "verdict.json", "cosine.png"} <= {
        file.path for file in client.list_artifacts(parent.info.run_id)
    }


@pytest.mark.usefixtures("client")
def test_what_a_link_leads_to_is_not_published():
    """A commit may hold links, to whatever is on the disk of those who pull it."""
    Path("secret").write_text("hunter2")
    for name in ("cosine.png", "key.txt"):
        (RESULTS / name).unlink(missing_ok=True)
        (RESULTS / name).symlink_to(Path("secret").resolve())
    sync()
    files = {path for place in ("metrics", "mlartifacts") for path in Path(place).rglob("*.*") if path.is_file()}
    assert {path.name for path in files} >= {"verdict.md", "verdict.json"}
    assert {path.name for path in files if b"hunter2" in path.read_bytes()} == {"cosine.png", "key.txt"}
    assert all(path.is_symlink() for path in files if b"hunter2" in path.read_bytes())
