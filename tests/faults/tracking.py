"""A real MLflow server that refuses, hangs, dies and comes back; a store that is locked; artifacts that cannot be
written. Training continues, and `ddpm track sync` sends later what was not sent."""

from __future__ import annotations

import getpass
import importlib.util
import os
import random
import selectors
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from tests.faults.project import Victim, wait_for
from tests.faults.storage import read_only
from tests.faults.table import Trial

MAX_COST = 10.0  # seconds that a hanging server may cost a run in all
IN_FILE = "MLflow in SQLite"
POSTGRES = Path("/usr/lib/postgresql")


def trials(blank: Victim, scratch: Path, generator: random.Random) -> Iterator[Trial]:
    prepared = blank.copy(scratch / "prepared")
    prepared.run("dvc", "repro", "reference")
    whole = prepared.copy(scratch / "whole-tracking")
    make_store(whole)
    started = time.monotonic()
    whole.run("dvc", "repro")
    usual, wanted = time.monotonic() - started, whole.contents()
    with ExitStack() as stack:
        database, what = stack.enter_context(a_database(scratch))
        server = Server(scratch, database)
        stack.callback(server.kill)
        server.start()
        relay = stack.enter_context(Relay(server.port))
        for fault, begins, harm, heal in (
            ("refuses", "from the start", lambda: relay.set("refuse"), lambda: relay.set("pass")),
            ("refuses", "in mid-run", lambda: relay.set("refuse"), lambda: relay.set("pass")),
            ("hangs", "from the start", lambda: relay.set("hang"), lambda: relay.set("pass")),
            ("hangs", "in mid-run", lambda: relay.set("hang"), lambda: relay.set("pass")),
            ("dies", "in mid-run", server.kill, server.start),
            ("dies and comes back", "in mid-run", server.restart, lambda: None),
            ("stops (SIGSTOP)", "in mid-run", server.stop, server.go_on),
        ):
            yield served(prepared, scratch, wanted, relay, f"{fault} ({what})", begins, harm, heal)
    for begins in ("from the start", "in mid-run"):
        yield locked(prepared, scratch, wanted, usual, begins)
    yield artifacts_read_only(prepared, scratch, wanted, usual)
    shutil.rmtree(prepared.folder)
    shutil.rmtree(whole.folder)


def served(
    prepared: Victim,
    scratch: Path,
    wanted: dict[str, Any],
    relay: Relay,
    fault: str,
    begins: str,
    harm: Callable[[], None],
    heal: Callable[[], None],
) -> Trial:
    victim = prepared.copy(scratch / "served")
    uri = f"http://127.0.0.1:{relay.port}"
    # a run of its own: all victims share this one's key
    experiment = f"ddpm-{victim.mark[:8]}"
    extra = {"MLFLOW_TRACKING_URI": uri, "MLFLOW_EXPERIMENT_NAME": experiment}
    relay.waited.clear()
    lost, _, seconds = run_through(victim, extra, begins, harm, heal)
    cost = covered(relay.waited)
    if cost > MAX_COST:
        lost.append(f"kept the run waiting for {cost:.1f} s")
    lost += victim.lost(wanted) + victim.run_problems(uri, experiment=experiment)
    shutil.rmtree(victim.folder)
    return Trial("MLflow server", fault, begins, tuple(lost), seconds, cost)


def locked(prepared: Victim, scratch: Path, wanted: dict[str, Any], usual: float, begins: str) -> Trial:
    victim = prepared.copy(scratch / "locked")
    store = make_store(victim)
    with closing(sqlite3.connect(store, timeout=60, isolation_level=None, check_same_thread=False)) as other:
        lost, ran, seconds = run_through(victim, {}, begins, lambda: lock(other), lambda: other.execute("ROLLBACK"))
    trial = Trial(IN_FILE, "locked by another process", begins, tuple(lost), seconds)
    return looked_through(victim, wanted, ran - usual, trial)


def make_store(victim: Victim) -> Path:
    code, said = victim.call("python", "-c", "from ddpm.tracking.store import Store; Store().client")
    if code:
        raise RuntimeError(said)
    return victim.folder / "mlflow.db"


def lock(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN EXCLUSIVE")


def artifacts_read_only(prepared: Victim, scratch: Path, wanted: dict[str, Any], usual: float) -> Trial:
    victim = prepared.copy(scratch / "artifacts")
    make_store(victim)
    (victim.folder / "mlartifacts").mkdir()
    with ExitStack() as stack:
        lost, ran, seconds = run_through(
            victim,
            {},
            "from the start",
            lambda: stack.enter_context(read_only(victim.folder / "mlartifacts")),
            stack.close,
        )
    trial = Trial(IN_FILE, "artifacts read-only", "from the start", tuple(lost), seconds)
    return looked_through(victim, wanted, ran - usual, trial)


def looked_through(victim: Victim, wanted: dict[str, Any], longer: float, trial: Trial) -> Trial:
    """``trial``, with whatever else was lost. longer: seconds more than those of a run with a working store."""
    cost = max(longer, 0.0)
    lost = victim.lost(wanted) + victim.run_problems()
    if cost > MAX_COST * victim.patience:
        lost.append(f"kept the run waiting for {cost:.1f} s")
    shutil.rmtree(victim.folder)
    return replace(trial, lost=(*trial.lost, *lost), cost=cost)


def run_through(
    victim: Victim, extra: dict[str, str], begins: str, harm: Callable[[], Any], heal: Callable[[], Any]
) -> tuple[list[str], float, float]:
    """Run ``dvc repro`` while the store is harmed, then `ddpm track sync`; what went wrong, and the seconds of each."""
    if begins == "from the start":
        harm()
    started = time.monotonic()
    process = victim.start("dvc", "repro", extra=extra)
    if begins == "in mid-run":
        wait_for(lambda: list((victim.folder / ".ddpm/checkpoints").glob("*/*.safetensors")), process)
        harm()
    code = victim.wait(process)
    ran = time.monotonic() - started
    lost = [] if code == 0 else [f"exit code {code}: {victim.said()[-400:]!r}"]
    said = victim.said()
    if "Traceback" in said:
        lost.append(f"a traceback: {said[-400:]!r}")
    heal()
    started = time.monotonic()
    code, said = victim.call("ddpm", "track", "sync", extra=extra)
    if code:
        lost.append(f"ddpm track sync: exit code {code}: {said[-400:]!r}")
    return lost, ran, time.monotonic() - started


class Server:
    """`mlflow server` on loopback. It keeps its port when it comes back."""

    def __init__(self, scratch: Path, database: str):
        self.scratch, self.database = scratch, database
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        store = (
            "--backend-store-uri",
            self.database,
            "--artifacts-destination",
            str(self.scratch / "served-artifacts"),
        )
        with (self.scratch / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *store, "--port", str(self.port), "--workers", "1"],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"},
                cwd=self.scratch,
                start_new_session=True,
            )
        deadline = time.monotonic() + 300
        while not answers(self.port):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self.scratch / "server.log").read_text()[-2000:])
            time.sleep(0.2)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)
        if self.process:
            self.process.wait()

    def restart(self) -> None:
        self.kill()
        self.start()

    def stop(self) -> None:
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self.process and self.process.poll() is None:
            for process in (*psutil.Process(self.process.pid).children(recursive=True), self.process):
                process.send_signal(number)


class Relay:
    """A port that leads to the server: it passes, refuses, or takes a request and never answers.

    waited: (start, end) of each wait for an answer that did not come.
    """

    def __init__(self, port: int):
        self.to, self.mode, self.ended = port, "pass", False
        self.waited: list[tuple[float, float]] = []
        self.listener: socket.socket | None = None
        self.port = free_port()
        self.threads: list[threading.Thread] = []

    def __enter__(self) -> Relay:
        self._listen()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended = True
        self._close()

    def set(self, mode: str) -> None:
        self.mode = mode
        if mode == "refuse":
            self._close()
        elif self.listener is None:
            self._listen()

    def _listen(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", self.port))
        thread = threading.Thread(target=self._accept, args=(self.listener,), daemon=True)
        thread.start()

    def _close(self) -> None:
        if self.listener:
            self.listener.shutdown(socket.SHUT_RDWR)
            self.listener.close()
            self.listener = None

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """Bytes both ways while the mode is pass; in the others, wait until the client gives up."""
        asked = 0.0  # since when an answer is due
        with client, socket.socket() as server, selectors.DefaultSelector() as ready:
            try:
                server.connect(("127.0.0.1", self.to))
                for end in (client, server):
                    ready.register(end, selectors.EVENT_READ)
                while not self.ended:
                    for key, _ in ready.select(0.1):
                        data = key.fileobj.recv(65536)  # type: ignore[union-attr]
                        if self.mode == "hang" and key.fileobj is server:
                            ready.unregister(server)  # whatever its content
                            continue
                        if not data or self.mode == "refuse":
                            return
                        if key.fileobj is server:
                            client.sendall(data)
                            asked = 0.0
                            continue
                        asked = asked or time.monotonic()
                        if self.mode == "pass":
                            server.sendall(data)
            except OSError:
                return
            finally:
                if asked:
                    self.waited.append((asked, time.monotonic()))


def covered(waits: list[tuple[float, float]]) -> float:
    """Seconds during which at least one was waiting."""
    whole, until = 0.0, 0.0
    for start, end in sorted(waits):
        whole += max(0.0, end - max(start, until))
        until = max(until, end)
    return whole


@contextmanager
def a_database(scratch: Path) -> Iterator[tuple[str, str]]:
    """Address and name: a PostgreSQL of its own if available, else SQLite."""
    programs = sorted(POSTGRES.glob("*/bin"))
    if not programs or importlib.util.find_spec("psycopg2") is None:
        yield f"sqlite:///{scratch / 'server.db'}", "SQLite"
        return
    folder, port = scratch / "postgres", free_port()
    folder.mkdir()
    user = "postgres" if os.geteuid() == 0 else getpass.getuser()  # it refuses to run as root
    shutil.chown(folder, user)
    scratch.chmod(0o755)
    as_user: dict[str, Any] = {"user": user, "cwd": folder, "check": True, "stdout": subprocess.DEVNULL}
    subprocess.run([programs[-1] / "initdb", "-D", folder / "data", "-U", "ddpm", "--auth=trust"], **as_user)
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"
    control = [programs[-1] / "pg_ctl", "-D", folder / "data", "-w", "-l", folder / "log"]
    subprocess.run([*control, "-o", options, "start"], **as_user)
    try:
        yield f"postgresql+psycopg2://ddpm@127.0.0.1:{port}/postgres", "PostgreSQL"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], **as_user)


def answers(port: int) -> bool:
    import urllib.error
    import urllib.request

    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
