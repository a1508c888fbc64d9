"""Runs in a real SQLite store, from the files of a small working folder."""

import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from unittest.mock import Mock

import pytest

from ddpm.base.errors import UserError
from ddpm.params import file
from ddpm.runs import library
from ddpm.tracking import tracker, view
from tests.scored import git
from tests.small_project import ROOT, set_params
from tests.tracked import ROWS, all_runs, artifacts, client, live, train, write_folder, write_record


def history(run_id: str, key: str) -> list[tuple[int, int, float]]:
    return [(metric.step, metric.timestamp, metric.value) for metric in client().get_metric_history(run_id, key)]


def everything(run_id: str) -> dict:
    run = client().get_run(run_id)
    return {
        "run": run.to_dictionary(),
        "metrics": {key: history(run_id, key) for key in run.data.metrics},
        "artifacts": artifacts(run_id),
    }


@pytest.mark.slow
def test_two_first_starts_make_one_usable_store_and_one_run(tmp_path):
    """Two processes create the store at the same time."""
    write_folder(tmp_path)
    program = "from ddpm.params import file; from ddpm.tracking import store, tracker; store.LOCK_SECONDS = 60;"
    command = [sys.executable, "-c", program + "print(tracker.sync(file.read_params()))"]
    options = {"cwd": tmp_path, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    options["env"] = {"MLFLOW_EXPERIMENT_NAME": "first", "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    processes = [subprocess.Popen(command, **options) for _ in range(2)]
    (first, warned), (second, warned_too) = (process.communicate(timeout=120) for process in processes)
    assert warned == warned_too == ""
    assert len(first.strip()) == 32
    assert first == second


def test_a_result_is_one_complete_run(tracked_folder):
    run_id = str(tracker.sync())
    (run,) = all_runs()
    assert (run.info.run_id, run.info.status) == (run_id, "FINISHED")
    assert {"diffusion.schedule.name": "cosine", "train.steps": "4000"}.items() <= run.data.params.items()
    numbers = {"classifier.fd": 1.5, "bits_per_dim": 3.5, "costs.images_seen": 512.0, "costs.seconds.train": 10.0}
    assert numbers.items() <= run.data.metrics.items()
    tags = {"schedule": "cosine", "model": "unet", "dataset": "digits", "seed": "0", "environment.processor": "a CPU"}
    assert tags.items() <= run.data.tags.items()
    assert run.data.tags["ddpm.fingerprint"] == library.workspace().fingerprint.hash
    curve = history(run_id, "loss")
    assert [step for step, _, _ in curve] == [row.step for row in ROWS]
    assert [stamp - run.info.start_time for _, stamp, _ in curve] == [1250 * row.step for row in ROWS]
    assert [value for _, _, value in curve] == pytest.approx([row.loss for row in ROWS], rel=1e-5)
    learned = {"classifier.fd": [(256, 2.5), (512, 1.5)], "classifier.kid_mean": [(512, 0.25)]}
    for key, points in learned.items():
        assert [(step, value) for step, _, value in history(run_id, key)] == points
    names = artifacts(run_id)
    assert {"processed/dataset.png", "samples/grid.png", "samples/reverse.mp4", "metrics/run.json"} <= set(names)
    # MLflow shows one picture per step, from a full-size PNG and a small WebP
    assert sum(name.startswith("images/samples+step+4+") for name in names) == 2
    client().update_run(run_id, name="a name of the user's")
    before = everything(run_id)
    assert tracker.sync() == run_id
    assert everything(run_id) == before


def test_a_training_that_is_killed_and_resumed_has_one_history(tracked_folder):
    with suppress(SystemExit):
        train([row._replace(loss=9.0) for row in ROWS[:6]], SystemExit(143))  # it starts over, on another device
    after_the_checkpoint = [row._replace(seconds=99.0) for row in ROWS[4:6]]
    with pytest.raises(SystemExit):
        train(ROWS[:4], SystemExit(143), after_the_checkpoint)
    (run,) = all_runs()
    assert run.info.status == "KILLED"
    assert run.data.params["diffusion.schedule.name"] == "cosine"
    assert run.data.tags["schedule"] == "cosine"
    with live() as log:
        for row in ROWS[4:]:
            log.log(row)
        log.flush()
        assert [run.info.status for run in all_runs()] == ["RUNNING"]
    sent_live = {key: history(run.info.run_id, key) for key in ("loss", "gradient_norm", "images_per_second")}
    assert [step for step, _, _ in sent_live["loss"]] == list(range(1, 9))
    assert tracker.sync() == run.info.run_id
    (finished,) = all_runs()
    assert finished.info.status == "FINISHED"
    assert finished.data.metrics["classifier.fd"] == 1.5
    assert finished.data.params["sample.steps"] == "50"
    assert {key: history(run.info.run_id, key) for key in sent_live} == sent_live


def test_a_write_that_was_cut_off_is_completed(tracked_folder, monkeypatch):
    train(ROWS)
    with monkeypatch.context() as patched, suppress(UserError):
        patched.setattr(tracker, "_send", Mock(side_effect=OSError("cut off")))
        tracker.sync()
    (half,) = all_runs()
    assert half.info.status == "RUNNING"
    assert tracker.sync() == half.info.run_id
    (run,) = all_runs()
    assert run.info.status == "FINISHED"
    assert [(step, value) for step, _, value in history(run.info.run_id, "bits_per_dim")] == [(512, 3.5)]


def test_no_credential_is_stored(tracked_folder):
    set_params(data={"source": "https://me:hunter2@host/x.gz?token=k3y"})
    write_record(tracked_folder)
    git("init", "-q")
    git("remote", "add", "origin", "https://me:hunter2@host/repo.git")
    run = client().get_run(str(tracker.sync(file.read_params())))
    assert run.data.params["data.source"] == "https://***@host/x.gz"
    assert run.data.tags["mlflow.source.git.repoURL"] == "https://***@host/repo.git"
    for secret in (b"hunter2", b"k3y"):
        assert secret not in Path("mlflow.db").read_bytes()
    assert "hunter2" not in str(view.texts({"data.source": ["https://me:hunter2@host/x"]}))  # a record from elsewhere


def test_only_a_record_of_these_params_and_this_code_is_written(tracked_folder):
    set_params(sample={"steps": 10})
    with pytest.raises(UserError, match=r"sample\.steps was 50, and is 10"):
        tracker.sync()
    set_params(sample={"steps": 50}, compare={"threshold": 0.1})  # no result depends on it
    assert tracker.sync()
    Path("dvc.yaml").write_text(Path("dvc.yaml").read_text() + "\n")
    with pytest.raises(UserError, match=r"dvc\.yaml has changed"):
        tracker.sync()
    Path("metrics/run.json").unlink()
    with pytest.raises(UserError, match="dvc repro"):
        tracker.sync()


def test_a_queued_experiment_is_in_the_repository_s_store(tracked_folder, monkeypatch):
    temporary = tracked_folder / ".dvc/tmp/exps/one"
    temporary.mkdir(parents=True)
    write_folder(temporary)
    monkeypatch.setenv("DVC_ROOT", str(tracked_folder))
    monkeypatch.chdir(temporary)
    run_id = tracker.sync(file.read_params())
    monkeypatch.chdir(tracked_folder)
    assert [run.info.run_id for run in all_runs()] == [run_id]
    assert (tracked_folder / "mlartifacts" / str(run_id) / "artifacts/samples/grid.png").exists()
    assert not (temporary / "mlflow.db").exists()


@pytest.mark.usefixtures("tracked_folder")
def test_a_store_s_password_is_not_in_the_warning(monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:hun/t@er2@127.0.0.1:1")
    assert tracker.sync({}) is None
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: MLflow at http://***")
    assert "er2" not in line
