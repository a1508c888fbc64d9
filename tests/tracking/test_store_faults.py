"""A store that is down, busy or damaged costs a warning, and no stage."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest

from ddpm.params import file
from ddpm.tracking import store, tracker
from tests import command, tracked
from tests.small_project import ROOT
from tests.tracked import ROWS, live, train


@pytest.fixture
def folder(tmp_path, empty_store, monkeypatch) -> Path:
    tracked.enter(tmp_path, empty_store, monkeypatch)
    return tmp_path


def drip(server: socket.socket, over: threading.Event) -> None:
    """Answer a byte now and then, which no timeout of a socket notices."""
    with suppress(OSError):
        connection, _ = server.accept()
        with connection:  # or a thread that waits for it would hold what MLflow's calls of later tests need
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n")
            while not over.wait(0.2):
                connection.sendall(b" ")


@pytest.mark.slow
@pytest.mark.parametrize("answers", ["refuses", "hangs", "drips"])
def test_a_server_that_is_down_costs_one_warning(answers, folder, monkeypatch, capfd):
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        if answers == "refuses":
            server.close()
        if answers == "drips":
            threading.Thread(target=drip, args=[server, over], daemon=True).start()
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
    over.set()
    warning = one_warning(capfd)
    assert f"http://***@127.0.0.1:{port}" in warning
    assert "hunter2" not in warning


def test_a_database_that_is_locked_in_mid_run_costs_one_warning(folder, capfd, monkeypatch):
    monkeypatch.setattr(store, "DEADLINE", 3.0)
    with live() as log, closing(sqlite3.connect("mlflow.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        log.log(ROWS[0])
        started = time.monotonic()
        log.flush()
        assert time.monotonic() - started < 6  # MLflow itself would wait for 20
        other.execute("ROLLBACK")
    assert "no answer after 3 seconds" in one_warning(capfd)
    assert tracker.sync(file.read_params())


@pytest.mark.parametrize("harm", [
    "UPDATE metrics SET step = 'first'", "UPDATE experiments SET lifecycle_stage = 'deleted'",
    "DROP TABLE metrics", "UPDATE alembic_version SET version_num = 'future'",
])  # fmt: skip
def test_a_store_that_others_changed_fails_no_stage_and_the_command_says_so(folder, capsys, harm):
    tracker.sync(file.read_params())
    with closing(sqlite3.connect("mlflow.db", isolation_level=None)) as database:
        database.execute(harm)
    train(ROWS[:1])
    capsys.readouterr()
    logged = tracker.sync(file.read_params())
    warning = capsys.readouterr().err
    assert (warning.count("\n"), warning.startswith("warning: MLflow at sqlite:///")) == (
        (0, False) if logged else (1, True)
    )
    if logged:
        assert tracker.sync() == logged
    else:
        assert refused(capsys).startswith("MLflow at sqlite:///")


def one_warning(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr."""
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: ")
    assert "ddpm track sync" in line
    return line


def refused(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr of `ddpm track sync`, which must fail."""
    return command.refused(capsys, "track", "sync")


@pytest.mark.slow
def test_a_database_that_was_half_made_is_made_again(tmp_path, monkeypatch):
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
    environment = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}", "PYTHONPATH": str(ROOT)}
    environment.pop("DDPM_TRACKING", None)

    def start(program: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)

    first = start(cut_short)
    assert first.returncode == -signal.SIGKILL, first.stderr
    again = start("from ddpm.tracking.store import Store; print(Store().client.search_experiments())")
    assert again.returncode == 0, again.stderr
    assert sorted(path.name for path in tmp_path.glob("*mlflow.db*")) == ["mlflow.db"]
