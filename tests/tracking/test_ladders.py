"""A ladder in MLflow: one run for it, and the runs of its attempts and its trials below, in a real store."""

import shutil
from pathlib import Path

import pygit2
import pytest
from mlflow import MlflowClient

from ddpm.ladder import climb, terms, track, trials
from ddpm.tracking import tracker, view

ROOT = Path(__file__).parents[2]


@pytest.fixture
def client(tmp_path, empty_store, monkeypatch) -> MlflowClient:
    """The store of a folder with a ladder that was climbed, and searched with a few trials."""
    for path in ("ladders/short.yaml", "ladders/short"):
        source, target = ROOT / path, tmp_path / path
        target.parent.mkdir(exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    lines = (tmp_path / "ladders/short/trials.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "ladders/short/trials.jsonl").write_text("".join(lines[:4]))
    monkeypatch.chdir(tmp_path)
    pygit2.init_repository(".")
    Path("mlflow.db").write_bytes(empty_store)
    for name in ("DDPM_TRACKING", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    return MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")


def test_a_ladder_is_a_run_with_its_attempts_and_trials_below_and_nothing_is_sent_twice(client):
    contest = terms.load(Path("ladders/short.yaml"))
    track.log(climb.read(contest))
    everything = client.search_runs([client.get_experiment_by_name("ddpm").experiment_id])
    [parent] = (one for one in everything if tracker.PARENT not in one.data.tags)
    assert (parent.data.tags["ddpm.ladder"], parent.info.status) == ("short", "FINISHED")
    assert contest.terms.question in parent.data.tags[tracker.NOTE]
    assert "search.md" in {file.path for file in client.list_artifacts(parent.info.run_id)}
    children = [one for one in everything if one is not parent]
    assert {one.data.tags[tracker.PARENT] for one in children} == {parent.info.run_id}
    by_title = {one.info.run_name.split(" · ")[0]: one for one in children}
    records = list(Path("ladders/short/attempts").glob("*/runs/*.json"))
    assert len(children) == len(by_title) == len(records) + 4
    assert {title.partition("-")[0] for title in by_title if title.endswith("search-1")} == {"champion", "challenger"}
    for number, trial in enumerate(trials.read(contest), 1):
        logged = by_title[f"trial {number}"].data
        sampler = trial.changes.get("sample.sampler.name", "ancestral")
        assert (logged.tags["seed"], logged.tags["sampler"]) == (str(trial.seed), sampler)
        assert logged.metrics[contest.terms.primary] == trial.score
        assert logged.params == view.texts(trial.changes)
    track.log(climb.read(contest))
    again = client.search_runs([client.get_experiment_by_name("ddpm").experiment_id])
    assert {one.info.run_id for one in again} == {one.info.run_id for one in everything}


def test_a_store_that_fails_is_a_warning(client, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////proc/none/mlflow.db")
    track.log(climb.read(terms.load(Path("ladders/short.yaml"))))
    assert capsys.readouterr().err.startswith("warning: ")
