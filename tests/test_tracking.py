"""Runs in a real SQLite store, from the files of a small working folder."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import ViewType
from PIL import Image

import ddpm
from ddpm import cli
from ddpm.base.errors import UserError
from ddpm.params import file
from ddpm.runs import alike as runs
from ddpm.tracking import record, store, syncing, tracker
from ddpm.training.history import Row

PRESET = Path(ddpm.__file__).parent / "presets" / "digits.yaml"
STORE_VARIABLES = ("DVC_ROOT", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV", "DDPM_TRACKING")
ROWS = [Row(step, 1.25 * step, 1 / step, 2e-3 / step, 3.0, 1e3 / 7) for step in range(1, 9)]

PIPELINE: dict[str, dict[str, Any]] = {
    "check": {"cmd": "true", "params": [{"params.yaml": None}], "deps": ["data/processed"], "outs": ["data/checked"]},
    "reference": {"cmd": "true", "params": ["evaluate"], "deps": ["data/processed"], "outs": ["data/reference"]},
    "train": {
        "cmd": "true",
        "params": ["seed", "diffusion", "model", "train"],
        "deps": ["data/checked", "data/processed"],
        "outs": ["data/model"],
    },
    "sample": {"cmd": "true", "params": ["sample"], "deps": ["data/model"], "outs": ["data/samples"]},
    "evaluate": {
        "cmd": "true",
        "params": ["evaluate"],
        "deps": ["data/reference", "data/samples"],
        "metrics": [{"metrics/evaluate.json": {"cache": False}}],
    },
}


@pytest.fixture
def folder(tmp_path: Path, empty_store: bytes, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder in which all stages have run, and a store without a run for it."""
    write_folder(tmp_path)
    (tmp_path / "mlflow.db").write_bytes(empty_store)
    monkeypatch.chdir(tmp_path)
    for name in (*STORE_VARIABLES, *store.SETTINGS, "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.setenv(name, "")  # so that changes made by the code are undone too
        monkeypatch.delenv(name)
    return tmp_path


def write_folder(root: Path) -> None:
    shutil.copy(PRESET, root / "params.yaml")
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": PIPELINE}))
    write_json(root / "metrics/train.json", {"loss": 0.1, "steps": 8, "device": "cpu"})
    write_json(root / "metrics/sample.json", {"images_per_second": 50.0})
    write_json(root / "metrics/evaluate.json", {"classifier": {"fd": 1.5, "kid_mean": 0.25}, "bits_per_dim": 3.5})
    write_json(root / "metrics/fingerprint.json", {"hash": "abc", "hash_without_sampling": "def"})
    manifest = {
        "dataset": "digits",
        "classes": ["0", "1"],
        "image_size": 16,
        "channels": 1,
        "counts": {"train": 8, "test": 2},
        "skipped": 0,
        "sha256": {"train": "1" * 64, "test": "2" * 64},
    }
    write_json(root / "data/processed/manifest.json", manifest)
    write_curve(root, ROWS)
    pictures = ("processed/dataset", "samples/grid", "samples/forward", "model/grids/step-4", "model/grids/step-8")
    for shade, name in enumerate(pictures):
        picture = root / "data" / f"{name}.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (16, 16), shade).save(picture)
    (root / "data/samples/reverse.mp4").write_bytes(b"a film")
    (root / "data/reference").mkdir()
    (root / "data/checked").touch()


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def write_curve(root: Path, rows: list[Row]) -> None:
    with (root / "metrics/loss.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Row._fields)
        writer.writerows([row.step, *(f"{value:.6g}" for value in row[1:])] for row in rows)


def set_param(key: str, value: Any) -> None:
    params = yaml.safe_load(Path("params.yaml").read_text())
    section, _, name = key.partition(".")
    params[section][name] = value
    Path("params.yaml").write_text(yaml.safe_dump(params))


def stopped_training(error: BaseException, saved: list[Row], lost: list[Row]) -> None:
    with tracker.Live(file.read()) as log:
        for row in saved:
            log.log(row)
        log.flush()
        for row in lost:
            log.log(row)
        raise error


def client() -> MlflowClient:
    return MlflowClient(tracking_uri=f"sqlite:///{Path('mlflow.db').resolve()}")


def all_runs(view: int = ViewType.ACTIVE_ONLY) -> list[Any]:
    experiment = client().get_experiment_by_name("ddpm")
    return list(client().search_runs([experiment.experiment_id], run_view_type=view)) if experiment else []


def history(run_id: str, key: str) -> list[tuple[int, int, float]]:
    return [(metric.step, metric.timestamp, metric.value) for metric in client().get_metric_history(run_id, key)]


def artifacts(run_id: str, folder: str = "") -> list[str]:
    found: list[str] = []
    for listed in client().list_artifacts(run_id, folder):
        found += artifacts(run_id, listed.path) if listed.is_dir else [listed.path]
    return sorted(found)


def everything(run_id: str) -> dict[str, Any]:
    run = client().get_run(run_id)
    return {
        "run": run.to_dictionary(),
        "metrics": {key: history(run_id, key) for key in run.data.metrics},
        "artifacts": artifacts(run_id),
    }


def test_two_first_starts_make_one_usable_store_and_one_run(tmp_path: Path) -> None:
    """Two processes create the store at the same time."""
    write_folder(tmp_path)
    program = "from ddpm.tracking import store, tracker; store.LOCK_SECONDS = 60; print(tracker.sync('train'))"
    command = [sys.executable, "-c", program]
    options: dict[str, Any] = {"cwd": tmp_path, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = {"MLFLOW_EXPERIMENT_NAME": "first", "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    processes = [subprocess.Popen(command, env=environment, **options) for _ in range(2)]
    (first, warned), (second, warned_too) = (process.communicate(timeout=120) for process in processes)
    assert warned == warned_too == ""
    assert len(first.strip()) == 32
    assert first == second


def test_a_finished_folder_is_one_complete_run(folder: Path) -> None:
    run_id = tracker.sync("evaluate")
    assert run_id
    assert [run.info.run_id for run in all_runs()] == [run_id]
    run = client().get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["diffusion.schedule.name"] == "cosine"
    assert run.data.params["diffusion.schedule.cosine.s"] == "0.008"
    assert run.data.params["model.unet.multipliers"] == "[1, 2]"
    assert run.data.params["train.epochs"] == "null"
    scores = {"classifier.fd": 1.5, "classifier.kid_mean": 0.25, "bits_per_dim": 3.5, "sample.images_per_second": 50.0}
    assert scores.items() <= run.data.metrics.items()
    assert run.data.tags["train.device"] == "cpu"
    assert run.data.tags["ddpm.fingerprint"] == "abc"
    assert run.data.tags["ddpm.fingerprint_without_sampling"] == "def"
    assert {f"version.{name}" for name in ("torch", "mlflow", "dvc", "python")} <= run.data.tags.keys()
    note = run.data.tags["mlflow.note.content"]
    assert note.split("\n\n")[0] == "classifier.fd **1.5** · bits_per_dim **3.5**"
    assert {"schedule": "cosine", "model": "unet", "dataset": "digits", "seed": "0"}.items() <= run.data.tags.items()
    (used,) = run.inputs.dataset_inputs
    assert used.dataset.name == "digits"
    curve = history(run_id, "loss")
    assert [step for step, _, _ in curve] == [row.step for row in ROWS]
    assert [stamp - run.info.start_time for _, stamp, _ in curve] == [1250 * row.step for row in ROWS]
    assert [value for _, _, value in curve] == pytest.approx([row.loss for row in ROWS], rel=1e-5)
    names = artifacts(run_id)
    expected = ("processed/dataset.png", "samples/grid.png", "samples/forward.png", "samples/reverse.mp4")
    assert {*expected, "metrics/fingerprint.json"} <= set(names)
    # MLflow shows one picture per step, from a full-size PNG and a small WebP
    assert sum(name.startswith("images/samples+step+4+") for name in names) == 2
    assert sum(name.startswith("images/samples+step+8+") for name in names) == 2


def test_runs_of_your_own_images_say_which(folder: Path) -> None:
    manifest = json.loads((folder / "data/processed/manifest.json").read_text())
    digests = []
    for source, content in (("photos/flowers64", "3"), ("/data/cifar.zip", "4")):
        set_param("data.dataset", {"name": "image_folder"})
        set_param("data.source", source)
        sha256 = {"train": content * 64, "test": "2" * 64}
        write_json(folder / "data/processed/manifest.json", manifest | {"dataset": "image_folder", "sha256": sha256})
        run = client().get_run(str(tracker.sync("evaluate")))
        (used,) = run.inputs.dataset_inputs
        name = f"{Path(source).stem}-{used.dataset.digest}"
        assert run.data.tags["dataset"] == used.dataset.name == name
        assert f" · {name} · " in run.info.run_name
        digests.append(used.dataset.digest)
    assert len(set(digests)) == 2


def test_the_experiment_has_a_view_of_what_runs_log(folder: Path) -> None:
    run = client().get_run(str(tracker.sync("evaluate")))
    shared = json.loads(client().get_experiment_by_name("ddpm").tags[store.VIEW])
    state = json.loads(shared["state"])
    logged = {f"tags.`{tag}`" for tag in run.data.tags} | {f"metrics.`{key}`" for key in run.data.metrics}
    assert set(state["selectedColumns"]) - logged == {"metrics.`inception.fid`"}
    sections = {section["uuid"] for section in state["compareRunSections"]}
    charts = state["compareRunCharts"]
    assert {chart["metricSectionId"] for chart in charts} == sections
    shown = {chart.get("metricKey") for chart in charts} - {None}
    assert shown - run.data.metrics.keys() == {"inception.fid"}


def test_syncing_again_changes_nothing(folder: Path) -> None:
    run_id = tracker.sync("evaluate")
    before = everything(str(run_id))
    assert tracker.sync("evaluate") == run_id
    assert everything(str(run_id)) == before


def test_the_stages_share_one_run_and_files_of_later_stages_stay_out(folder: Path) -> None:
    run_id = str(tracker.sync("train"))
    assert not {"classifier.fd", "sample.images_per_second"} & client().get_run(run_id).data.metrics.keys()
    assert not any(name.startswith(("samples/", "metrics/")) for name in artifacts(run_id))
    assert tracker.sync("sample") == tracker.sync("evaluate") == run_id
    assert client().get_run(run_id).data.metrics["classifier.fd"] == 1.5


def test_scores_by_images_seen_are_metrics_of_that_step_and_the_score_stays_one(folder: Path) -> None:
    rows = {16: "2.5,", 32: "2.0,0.5", 64: "1.5,0.25"}
    text = "images,classifier.fd,classifier.kid_mean\n" + "".join(f"{at},{row}\n" for at, row in rows.items())
    (folder / "metrics/curve.csv").write_text(text)
    run_id = str(tracker.sync("evaluate"))
    assert tracker.sync("evaluate") == run_id
    learned = [(step, value) for step, _, value in history(run_id, "learned.classifier.fd")]
    assert learned == [(16, 2.5), (32, 2.0), (64, 1.5)]
    assert [step for step, _, _ in history(run_id, "learned.classifier.kid_mean")] == [32, 64]
    assert [(step, value) for step, _, value in history(run_id, "classifier.fd")] == [(0, 1.5)]
    (logged,) = [runs.of_logged(each) for each in tracker.logged()]
    assert "learned.classifier.fd" not in logged.scores


def test_another_sampling_is_another_run_with_the_whole_curve(folder: Path) -> None:
    first = tracker.sync("evaluate")
    set_param("sample.steps", 10)
    second = str(tracker.sync("sample"))
    assert second != first
    assert len(history(second, "loss")) == len(ROWS)
    assert "classifier.fd" not in client().get_run(second).data.metrics
    assert len(all_runs()) == 2


def test_a_training_that_is_killed_and_resumed_has_one_history(folder: Path) -> None:
    after_the_checkpoint = [row._replace(seconds=99.0) for row in ROWS[4:6]]
    with pytest.raises(SystemExit):
        stopped_training(SystemExit(143), ROWS[:4], after_the_checkpoint)
    (run,) = all_runs()
    assert run.info.status == "KILLED"
    with tracker.Live(file.read()) as log:
        for row in ROWS[4:]:
            log.log(row)
        log.flush()
        assert [run.info.status for run in all_runs()] == ["RUNNING"]
    (finished,) = all_runs()
    assert finished.info.run_id == run.info.run_id
    assert finished.info.status == "FINISHED"
    sent_live = {key: history(run.info.run_id, key) for key in ("loss", "gradient_norm", "images_per_second")}
    assert [step for step, _, _ in sent_live["loss"]] == list(range(1, 9))
    tracker.sync("evaluate")
    assert {key: history(run.info.run_id, key) for key in sent_live} == sent_live


def test_training_again_replaces_the_run(folder: Path) -> None:
    first = tracker.sync("evaluate")
    slower = [row._replace(seconds=row.seconds * 1.5) for row in ROWS]
    with tracker.Live(file.read()) as log:
        for row in slower:
            log.log(row)
        log.flush()
        write_curve(folder, slower)
    (run,) = all_runs()
    assert run.info.run_id != first
    assert [stamp - run.info.start_time for _, stamp, _ in history(run.info.run_id, "loss")] == [
        1875 * row.step for row in ROWS
    ]
    assert [run.info.run_id for run in all_runs(ViewType.DELETED_ONLY)] == [first]


def test_a_failed_training_says_so(folder: Path) -> None:
    with pytest.raises(UserError):
        stopped_training(UserError("train: the loss is not finite"), [], ROWS[:1])
    (run,) = all_runs()
    assert run.info.status == "FAILED"
    assert not run.data.metrics.keys() & {"loss", "train.loss"}


def test_system_metrics_are_collected(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.05")
    with tracker.Live(file.read()):
        time.sleep(0.5)
    (run,) = all_runs()
    steps = [step for step, _, _ in history(run.info.run_id, "system/cpu_utilization_percentage")]
    assert steps
    assert len(steps) == len(set(steps))


def test_a_score_with_another_result_is_the_next_step_of_its_history(folder: Path) -> None:
    run_id = str(tracker.sync("evaluate"))
    write_json(folder / "metrics/sample.json", {"images_per_second": 40.0})
    assert tracker.sync("evaluate") == run_id
    assert client().get_run(run_id).data.metrics["sample.images_per_second"] == 40.0
    assert [(step, value) for step, _, value in history(run_id, "sample.images_per_second")] == [(0, 50.0), (1, 40.0)]
    assert len(history(run_id, "classifier.fd")) == 1


def test_a_changed_picture_replaces_the_one_before(folder: Path) -> None:
    run_id = str(tracker.sync("sample"))
    before = artifacts(run_id)
    Image.new("L", (16, 16), 200).save("data/samples/grid.png")
    tracker.sync("sample")
    assert artifacts(run_id) == before
    copy = client().download_artifacts(run_id, "samples/grid.png")
    assert Path(copy).read_bytes() == Path("data/samples/grid.png").read_bytes()


def test_no_credential_is_stored(folder: Path) -> None:
    set_param("data.source", "https://me:hunter2@host/x.gz?token=k3y")
    subprocess.run(["git", "init", "-q"], check=True)
    subprocess.run(["git", "remote", "add", "origin", "https://me:hunter2@host/repo.git"], check=True)
    run = client().get_run(str(tracker.sync("evaluate")))
    assert run.data.params["data.source"] == "https://***@host/x.gz"
    assert run.data.tags["mlflow.source.git.repoURL"] == "https://***@host/repo.git"
    for secret in (b"hunter2", b"k3y"):
        assert secret not in Path("mlflow.db").read_bytes()


def test_commit_and_experiment_are_tagged(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "params.yaml", "dvc.yaml"], check=True)
    subprocess.run([*git, "commit", "-qm", "start"], check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert record.environment()["ddpm.git.dirty"] == "false"
    set_param("sample.steps", 10)
    monkeypatch.setenv("DVC_EXP_NAME", "short-tern")
    monkeypatch.setenv("DVC_EXP_BASELINE_REV", head)
    tags = client().get_run(str(tracker.sync("train"))).data.tags
    assert tags["mlflow.source.git.commit"] == tags["dvc.exp.baseline"] == head
    assert tags["ddpm.git.dirty"] == "true"
    assert "short-tern" in tags["mlflow.runName"]
    assert "`dvc exp apply short-tern`" in tags["mlflow.note.content"]


def test_a_queued_experiment_is_in_the_repository_s_store(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = folder / ".dvc/tmp/exps/one"
    temporary.mkdir(parents=True)
    write_folder(temporary)
    monkeypatch.setenv("DVC_ROOT", str(folder))
    monkeypatch.chdir(temporary)
    run_id = tracker.sync("evaluate")
    monkeypatch.chdir(folder)
    assert [run.info.run_id for run in all_runs()] == [run_id]
    assert (folder / "mlartifacts" / str(run_id) / "artifacts/samples/grid.png").exists()
    assert not (temporary / "mlflow.db").exists()


def test_without_a_stage_dvc_is_asked_what_is_up_to_date(folder: Path) -> None:
    from dvc.repo import Repo

    with Repo.init(no_scm=True) as repo:
        with pytest.raises(UserError, match="dvc repro"):
            tracker.sync()
        repo.commit(force=True)
    assert record.finished() == "evaluate"
    set_param("gate.k", 4.0)  # only the check stage reads it
    assert record.finished() == "evaluate"
    (folder / "data/samples/grid.png").write_bytes(b"touched")
    assert record.finished() == "train"
    set_param("sample.steps", 10)
    run_id = str(tracker.sync())
    assert "sample.images_per_second" not in client().get_run(run_id).data.metrics


def drip(server: socket.socket, end: threading.Event) -> None:
    """Answer a byte now and then, which no timeout of a socket notices."""
    connection, _ = server.accept()
    with suppress(OSError), connection:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n")
        while not end.wait(0.2):
            connection.sendall(b" ")


@pytest.mark.slow
@pytest.mark.parametrize("answers", ["refuses", "hangs", "drips"])
def test_a_server_that_is_down_costs_one_warning(
    answers: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        if answers == "refuses":
            server.close()
        if answers == "drips":
            dripping = threading.Thread(target=drip, args=[server, end := threading.Event()], daemon=True)
            dripping.start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:hunter2@127.0.0.1:{port}")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        started = time.monotonic()
        with tracker.Live(file.read()) as log:
            for row in ROWS:
                log.log(row)
                log.flush()
        assert log.store.off
        assert time.monotonic() - started < 15
        if answers == "drips":  # the thread that waits holds the lock of Store.client, before Python 3.12
            end.set()
            dripping.join()
    warning = capfd.readouterr().err
    assert warning.count("\n") == 1
    assert f"http://***@127.0.0.1:{port}" in warning
    assert "ddpm track sync" in warning
    assert "hunter2" not in warning


@pytest.mark.slow
def test_a_lock_that_another_process_holds_costs_one_warning(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with FileLock(".ddpm/mlflow.lock"):
        started = time.monotonic()
        assert tracker.sync("train") is None
        assert time.monotonic() - started < 15
    assert "mlflow.lock" in one_warning(capsys)
    assert tracker.sync("train")


@pytest.mark.parametrize("when", ["before it is asked", "right after"])
def test_a_database_that_is_locked_in_mid_run_costs_one_warning(
    folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    if when == "right after":
        monkeypatch.setattr(store, "probe", lambda uri: None)
    with tracker.Live(file.read()) as log, closing(sqlite3.connect("mlflow.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        log.log(ROWS[0])
        started = time.monotonic()
        log.flush()
        assert time.monotonic() - started < 15  # MLflow itself would wait for 20
        other.execute("ROLLBACK")
    warning = capfd.readouterr().err
    assert warning.count("\n") == 1
    assert "database is locked" in warning
    assert tracker.sync("train")


def test_a_timeout_that_is_not_a_number_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(store.TIMEOUT, "2 s")
    assert tracker.sync("train") is None
    assert "MLFLOW_HTTP_REQUEST_TIMEOUT: '2 s' is not a whole number" in one_warning(capsys)
    with pytest.raises(UserError, match="MLFLOW_HTTP_REQUEST_TIMEOUT: '2 s' is not a whole number"):
        tracker.sync()


def test_off_makes_no_store(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "mlflow.db").unlink()
    monkeypatch.setenv("DDPM_TRACKING", "off")
    with tracker.Live(file.read()) as log:
        log.log(ROWS[0])
        log.flush()
    assert tracker.sync("evaluate") is None
    assert not (folder / "mlflow.db").exists()


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        ("metrics/loss.csv", "step,seconds,loss\n1,fast,2\n", "metrics/loss.csv: not a loss curve"),
        ("metrics/sample.json", None, "metrics/sample.json: no such file"),
        ("metrics/evaluate.json", "[1]", "AttributeError"),
        ("metrics/fingerprint.json", "5", "AttributeError"),
    ],
)
def test_a_missing_or_broken_file_is_named_and_fails_no_stage(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    content: str | None,
    message: str,
) -> None:
    (folder / path).unlink()
    if content:
        (folder / path).write_text(content)
    assert tracker.sync("evaluate") is None
    assert message in one_warning(capsys)
    monkeypatch.setattr(record, "finished", lambda: "evaluate")
    assert message in refused(capsys)


# --- what others wrote to the store


def test_foreign_artifacts_are_ignored(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_id = str(tracker.sync("train"))
    before = artifacts(run_id)
    for name in ("holiday.png", "samples+step", "samples+step+nine+timestamp+1.png", "samples+step+12"):
        client().log_text(run_id, "no picture", f"images/{name}")
    client().log_text(run_id, "no picture", "images/samples+step+4+timestamp+1+x/inner.png")
    Path("data/model/grids/step-last.png").write_bytes(b"no grid")
    assert tracker.sync("evaluate") == run_id
    assert capsys.readouterr().err == ""
    assert set(before) < set(artifacts(run_id))
    complete = everything(run_id)
    assert tracker.sync("evaluate") == run_id
    assert everything(run_id) == complete


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE runs SET start_time = 'soon'",
        "UPDATE runs SET artifact_uri = 'nowhere:///x'",
        "UPDATE metrics SET step = 'first'",
        "UPDATE latest_metrics SET value = 'high'",
        "UPDATE experiments SET lifecycle_stage = 'deleted'",
        "UPDATE tags SET value = NULL",
        "DROP TABLE metrics",
        "UPDATE alembic_version SET version_num = 'future'",
    ],
)
def test_a_store_that_others_changed_fails_no_stage_and_the_command_says_so(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    tracker.sync("train")
    with closing(sqlite3.connect("mlflow.db", isolation_level=None)) as database:
        database.execute(harm)
    with tracker.Live(file.read()) as log:
        log.log(ROWS[0])
        log.flush()
    capsys.readouterr()
    logged = tracker.sync("evaluate")
    warning = capsys.readouterr().err
    assert (warning.count("\n"), warning.startswith("warning: MLflow at sqlite:///")) == (
        (0, False) if logged else (1, True)
    )
    monkeypatch.setattr(record, "finished", lambda: "evaluate")
    if logged:
        assert tracker.sync() == logged
    else:
        assert refused(capsys).startswith("MLflow at sqlite:///")


@pytest.mark.parametrize("error", [IndexError("list index"), KeyError("x"), RecursionError("deep"), MemoryError()])
def test_what_nobody_expected_fails_no_stage_and_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(syncing, "send", fails)
    with tracker.Live(file.read()) as log:
        log.log(ROWS[0])
        log.flush()
        log.log(ROWS[1])
        log.flush()
    warning = one_warning(capsys)
    assert type(error).__name__ in warning
    monkeypatch.setattr(record, "finished", lambda: "evaluate")
    assert type(error).__name__ in refused(capsys)


def test_a_run_that_others_logged_is_left_out_by_name(folder: Path) -> None:
    tracker.sync("evaluate")
    (experiment,) = {run.info.experiment_id for run in all_runs()}
    for params in ({"seed": "1", "seed.x": "2"}, {"a": "[" * 5000}, {"b": "9" * 5000}):
        run = client().create_run(experiment, tags={"ddpm.fingerprint": "abc"})
        client().log_metric(run.info.run_id, "classifier.fd", 1.0)
        for key, value in params.items():
            client().log_param(run.info.run_id, key, value)
    for logged in tracker.logged():
        if logged.tags.keys() >= {syncing.KEY}:
            runs.of_logged(logged)
        else:
            with pytest.raises(UserError):
                runs.of_logged(logged)


def one_warning(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr."""
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: ")
    assert "ddpm track sync" in line
    return line


def refused(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr of `ddpm track sync`, which must fail."""
    with pytest.raises(SystemExit, match="2"):
        cli.main(["track", "sync"])
    output = capsys.readouterr()
    assert output.out == ""
    (line,) = output.err.splitlines()
    return line.removeprefix("error: ")


@pytest.mark.slow
def test_a_database_that_was_half_made_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut_short = """
import os, signal, sqlalchemy
from mlflow.store.db import utils
from ddpm.tracking.store import Store
def half(engine):
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("CREATE TABLE evaluation_datasets (id INT)"))
    os.kill(os.getpid(), signal.SIGKILL)
utils._initialize_tables = half
Store().client
"""
    monkeypatch.chdir(tmp_path)
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}",
        "PYTHONPATH": str(Path(__file__).parent.parent),
    }
    environment.pop("DDPM_TRACKING", None)
    first = subprocess.run([sys.executable, "-c", cut_short], env=environment, capture_output=True, text=True)
    assert first.returncode == -signal.SIGKILL, first.stderr
    again = subprocess.run(
        [sys.executable, "-c", "from ddpm.tracking.store import Store; print(Store().client.search_experiments())"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert again.returncode == 0, again.stderr
    assert sorted(path.name for path in tmp_path.glob("*mlflow.db*")) == ["mlflow.db"]
