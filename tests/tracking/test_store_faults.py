"""A store that is down, busy or damaged costs a warning, and no stage."""

import socket
import sqlite3
import time
from contextlib import closing
from unittest.mock import Mock

import pytest
from mlflow import MlflowClient

from ddpm.params import file
from ddpm.tracking import store, tracker
from tests import command
from tests.tracked import ROWS, live, train


@pytest.mark.slow
@pytest.mark.parametrize("answers", ["refuses", "hangs"])
def test_a_server_that_is_down_costs_one_warning(answers, tracked_folder, monkeypatch, capfd):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        if answers == "refuses":
            server.close()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:hunter2@127.0.0.1:{port}")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        started = time.monotonic()
        with live() as log:
            for row in ROWS:
                log.log(row)
                log.flush()
        assert log.store.off
        assert time.monotonic() - started < 15
    warning = one_warning(capfd)
    assert f"http://***@127.0.0.1:{port}" in warning
    assert "hunter2" not in warning


def test_a_database_that_is_locked_in_mid_run_costs_one_warning(tracked_folder, capfd, monkeypatch):
    monkeypatch.setattr(store, "DEADLINE", 3.0)
    with live() as log, closing(sqlite3.connect("mlflow.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        log.log(ROWS[0])
        started = time.monotonic()
        log.flush()
        assert time.monotonic() - started < 6  # MLflow itself would wait for 20
        other.execute("ROLLBACK")
    assert "no answer after 3 seconds" in one_warning(capfd)
    assert tracker.sync()


@pytest.mark.parametrize("harm", [
    "UPDATE metrics SET step = 'first'", "DROP TABLE metrics", "UPDATE alembic_version SET version_num = 'future'",
])  # fmt: skip
def test_a_store_that_others_changed_fails_no_stage_and_the_command_says_so(tracked_folder, capsys, harm):
    tracker.sync(file.read_params())
    with closing(sqlite3.connect("mlflow.db", isolation_level=None)) as database:
        database.execute(harm)
    train(ROWS[:1])
    capsys.readouterr()
    logged = tracker.sync(file.read_params())
    if logged:
        assert capsys.readouterr().err == ""
        assert tracker.sync() == logged
    else:
        assert one_warning(capsys).startswith("warning: MLflow at sqlite:///")
        assert command.refused(capsys, "track", "sync").startswith("MLflow at sqlite:///")


def one_warning(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr."""
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: ")
    assert "ddpm track sync" in line
    return line


@pytest.mark.slow
def test_a_database_is_made_whole_or_not_at_all(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "search_experiments", Mock(side_effect=OSError("cut off")))
        with pytest.raises(OSError, match="cut off"):
            _ = store.Store().client
    assert list(tmp_path.glob("*mlflow.db*")) == []
    assert store.Store().client.search_experiments()
    assert [path.name for path in tmp_path.glob("*mlflow.db*")] == ["mlflow.db"]
