"""MLflow: one run per configuration, a view of DVC's files.

The train, sample and evaluate stages and ``ddpm track sync`` find the run by its tag ``ddpm.run_key`` and bring it up
to date with the files. No stage fails because of tracking: it warns once and leaves the store alone for the rest of the
process. The files hold everything; ``ddpm track sync`` sends later what is missing. mlflow takes 1-3 s to import, and
reads the settings that Store makes, so functions that need it import it themselves.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from ddpm.base.errors import UserError
from ddpm.params import file
from ddpm.tracking import record
from ddpm.tracking.record import Point
from ddpm.tracking.store import COMMAND_SECONDS, Store

if TYPE_CHECKING:
    from ddpm.training.history import Row  # it imports torch


def sync(
    upto: str | None = None,
    params: dict[str, Any] | None = None,
    store: Store | None = None,
    attached: Path | None = None,
) -> str | None:
    """Bring the configuration's run up to date with the files; return its id, or None if tracking is off or fails.

    upto: the stage that has just run; nothing here fails it, because files of later stages may be another
    configuration's. params: what the stage was started with. Without them, for a command, DVC reports which stages are
    up to date with params.yaml; this raises UserError if a file is missing, no stage is up to date, or the store fails.
    attached: a file to log with the run, in place of one with that name.
    """
    store = store or Store(strict=upto is None)

    def complete() -> str:
        from ddpm.tracking import syncing

        if (last := upto or record.finished()) is None:
            raise UserError("track sync: no stage is up to date with params.yaml and the code; run `dvc repro` first")
        wanted = record.read(last, params or file.read())
        with store.locked():
            run_id = syncing.complete(store, wanted)
        if attached:
            store.client.log_artifact(run_id, str(attached))
        return run_id

    return store.attempt(complete)


class Logged(NamedTuple):
    """A run in the store: params as text, the last value of each metric, its start in seconds since the epoch."""

    name: str
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]
    started: float


def logged() -> list[Logged]:
    """The experiment's runs, newest first; none if tracking is off, or the store is absent or fails."""
    store = Store()
    store.deadline = float(COMMAND_SECONDS)

    def read() -> list[Logged]:
        found = ((run.info, run.data) for run in store.runs())
        return [
            Logged(info.run_name or info.run_id, data.params, data.metrics, data.tags, (info.start_time or 0) / 1000)
            for info, data in found
        ]

    return [] if store.absent else store.attempt(read) or []


class Live:
    """The run of a training process: the curve as it grows, and system metrics every ten seconds.

    params: what the stage was started with. On exit without an error it syncs the run, so write the stage's files and
    check its inputs inside it.

    Rows wait in memory until ``flush``, which must be called right after a checkpoint: a killed process resumes from
    there, and sends no step twice. Rows of a training that fails stay unsent.
    """

    def __init__(self, params: dict[str, Any], on: bool = True):
        self.store = Store()
        self.store.off |= not on
        self.params = params
        self.waiting: list[Row] = []
        self.flushed = False

    def __enter__(self) -> Self:
        self.store.attempt(self._watch)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        status = "FINISHED" if kind is None else "FAILED" if issubclass(kind, Exception) else "KILLED"
        self.store.attempt(lambda: self._end(status))
        if kind is None:
            sync("train", self.params, self.store)

    def log(self, row: Row) -> None:
        self.waiting.append(row)

    def flush(self) -> None:
        """Send the waiting rows."""
        if self.waiting:
            self.store.attempt(self._flush)
            self.waiting = []

    def _watch(self) -> None:
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        from ddpm.tracking import syncing

        wanted = record.read(None, self.params)
        with self.store.locked():
            self.run = syncing.find(self.store, wanted)
        self.store.client.update_run(self.run.info.run_id, status="RUNNING")
        monitor: Any = SystemMetricsMonitor  # it has no types
        self.monitor = monitor(self.run.info.run_id, resume_logging=True, tracking_uri=self.store.uri)
        self.monitor.start()

    def _flush(self) -> None:
        from ddpm.tracking import syncing

        client, first = self.store.client, self.waiting[0].step
        # only now is it known whether training resumed or started over
        if not self.flushed and any(point.step >= first for point in syncing.history(client, self.run)):
            self.monitor.finish()
            client.delete_run(self.run.info.run_id)
            self._watch()
        self.flushed = True
        syncing.send(client, self.run, [Point.of(row._asdict()) for row in self.waiting])

    def _end(self, status: str) -> None:
        self.store.client.set_terminated(self.run.info.run_id, status)
        self.monitor.finish()
