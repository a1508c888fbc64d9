"""Access to MLflow's store with bounded waits; the only place that handles its failures.

The store is ``mlflow.db`` and ``mlartifacts`` in the repository's root, or MLFLOW_TRACKING_URI. The experiment is
"ddpm", or MLFLOW_EXPERIMENT_NAME. ``DDPM_TRACKING=off`` switches tracking off. MLflow waits minutes for a server or a
database that is down; here a stage waits at most ``DEADLINE`` seconds.
"""

import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from functools import cached_property
from importlib import resources
from io import FileIO
from pathlib import Path
from typing import Any, TypeVar

from ddpm.base import files
from ddpm.base.errors import UserError, mask_secrets, printable
from ddpm.base.locks import lock

T = TypeVar("T")

SQLITE = "sqlite:///"
VIEW = "mlflow.sharedViewState.ddpm"  # the view that the runs' page offers under Views
KIND = "mlflow.experimentKind"  # without it MLflow may open the experiment on its pages for language models
# Seconds. A stage waits DEADLINE for the store and, before that, LOCK_SECONDS for the lock. A command waits
# PATIENT_SECONDS for a connection, and so does a stage that creates the database, which takes longer on a busy machine.
DEADLINE, LOCK_SECONDS, PATIENT_SECONDS = 10.0, 8.0, 60.0
TIMEOUT = "MLFLOW_HTTP_REQUEST_TIMEOUT"  # whole seconds; MLflow applies it to servers only
# The user's own values win. Without retries a server that is down costs seconds, not a quarter of an hour.
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    TIMEOUT: "2",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


class Store:
    """MLflow's store. If it fails, a stage prints one warning and leaves it alone; with ``strict``, for a command, the
    failure is a UserError."""

    def __init__(self, strict: bool = False) -> None:
        self.strict = strict
        for name, value in (SETTINGS | ({TIMEOUT: f"{PATIENT_SECONDS:g}"} if strict else {})).items():
            os.environ.setdefault(name, value)
        self.root = Path(os.environ.get("DVC_ROOT", ".")).resolve()
        self.uri = os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}{self.root / 'mlflow.db'}"
        self.database = Path(self.uri.removeprefix(SQLITE)) if self.uri.startswith(SQLITE) else None
        self.experiment_name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "ddpm"
        self.off = os.environ.get("DDPM_TRACKING") == "off"
        self.held: FileIO | None = None

    @property
    def absent(self) -> bool:
        """Whether the store is a file that does not exist yet."""
        return self.database is not None and not self.database.exists()

    def attempt(self, action: Callable[[], T]) -> T | None:
        """Run ``action`` and return its result; None if tracking is off or fails. A stage waits until the deadline, a
        command as long as the store answers."""
        if self.off:
            return None
        try:
            import mlflow  # noqa: F401  # before the clock starts: this takes seconds that are not the store's

            return action() if self.strict else self._within(PATIENT_SECONDS if self.absent else DEADLINE, action)
        except Exception as error:
            self.off = True
            line = f"MLflow at {mask_secrets(self.uri)} failed ({_reason(error, self.uri)})"
            if self.strict:
                raise UserError(line) from error
            print(f"warning: {line}; continuing without it: `ddpm track sync` logs the run later", file=sys.stderr)
            return None

    def _within(self, seconds: float, action: Callable[[], T]) -> T:
        """Run ``action`` in a thread, which is abandoned after ``seconds``."""
        outcome: Future[T] = Future()

        def work() -> None:
            try:
                outcome.set_result(action())
            except Exception as error:
                outcome.set_exception(error)

        threading.Thread(target=work, daemon=True).start()
        if not wait([outcome], seconds).done:
            if self.held:
                self.held.close()
            raise TimeoutError(f"no answer after {seconds:g} seconds: it is down, or another process holds it")
        return outcome.result()

    @cached_property
    def client(self) -> Any:
        """The ``MlflowClient`` of the store; a command waits PATIENT_SECONDS for it."""
        return self._within(PATIENT_SECONDS, self._connect) if self.strict else self._connect()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the lock under which processes of this repository look up and write runs. Raises TimeoutError."""
        _ = self.client  # connecting takes the same lock
        with self._alone():
            yield

    @contextmanager
    def _alone(self) -> Iterator[None]:
        path = self.root / ".ddpm" / "mlflow.lock"
        with lock(path, PATIENT_SECONDS if self.strict else LOCK_SECONDS) as self.held:
            if self.held is None:
                raise TimeoutError(f"{path}: another process holds this lock")
            yield

    def _connect(self) -> Any:
        """Connect under the lock: two processes that create the database at once leave it unusable."""
        from mlflow import MlflowClient

        logging.getLogger("alembic").setLevel(logging.WARNING)
        # they would report a store that is down or locked a second time, after ``attempt``
        for name in ("mlflow.system_metrics", "mlflow.store.db.utils", "urllib3.connectionpool"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        with self._alone():
            if self.database and self.absent:
                # atomically: MLflow cannot open a database with half of its tables, which a kill would leave
                with files.atomic_path(self.database) as temporary:
                    MlflowClient(f"{SQLITE}{temporary.resolve()}").search_experiments(max_results=1)
            client = MlflowClient(tracking_uri=self.uri)
            client.get_experiment_by_name(self.experiment_name)
        return client

    @cached_property
    def experiment(self) -> str:
        """The experiment's id; if it does not exist, it is created with a view of the logged scores and tags."""
        if experiment := self.client.get_experiment_by_name(self.experiment_name):
            return str(experiment.experiment_id)
        view = json.loads(resources.files("ddpm.tracking").joinpath("mlflow_view.json").read_text(encoding="utf-8"))
        artifacts = (self.root / "mlartifacts").as_uri() if self.database else None
        tags = {VIEW: json.dumps(view | {"state": json.dumps(view["state"])}), KIND: "custom_model_development"}
        return self.client.create_experiment(self.experiment_name, artifacts, tags)


def _reason(error: BaseException, uri: str) -> str:
    """The root cause in one line; only its type if the address has a password, because libraries quote parts of an
    address that they cannot parse."""
    while deeper := error.__cause__ or error.__context__:
        error = deeper
    kind, line = type(error).__name__, printable(mask_secrets(str(error).strip().partition("\n")[0]))
    return f"{kind}: {line}" if mask_secrets(uri) == uri else kind
