"""examples/optuna_dashboard.py: what it writes is a study of Optuna's with the scores and recipes of the trials."""

import json
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from examples import optuna_dashboard

ROOT = Path(__file__).parents[2]


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_optuna_reads_the_trials_of_a_search(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(optuna_dashboard, "FOLDER", tmp_path)
    optuna_dashboard.main(["eyes"])
    path = tmp_path / "eyes.journal"
    assert str(path) in capsys.readouterr().out
    study = optuna.load_study(study_name=None, storage=JournalStorage(JournalFileBackend(str(path))))
    lines = [json.loads(line) for line in (ROOT / "ladders/eyes/trials.jsonl").read_text().splitlines()]
    assert [trial.value for trial in study.trials] == [line["score"] for line in lines]
    assert study.best_value == min(line["score"] for line in lines)
    for trial, line in zip(study.trials, lines, strict=True):
        assert trial.params.items() >= line["changes"].items()
        assert trial.user_attrs["c2st.auc"] == line["eyes"]["c2st.auc"]
