"""MLflow: one run per configuration, a view of DVC's files. mlflow costs 1-3 s: it is imported here, and in serving.py.

The train, sample and evaluate stages, and ``ddpm track sync``, find the run by its tag ``ddpm.run_key`` and bring it
up to date with the files; what is already there is not sent again, so that doing it twice, or again after a crash,
changes nothing. MLflow cannot take a metric back: when a configuration is trained anew, with another curve, its run is
deleted (``mlflow gc`` would purge it) and a new one is made.

The store is ``mlflow.db`` and ``mlartifacts`` in the repository's root, or MLFLOW_TRACKING_URI; the experiment is
"ddpm", or MLFLOW_EXPERIMENT_NAME; ``DDPM_TRACKING=off`` switches all of it off. No stage fails because of tracking: it
warns once, and leaves the store alone for the rest of the process. The files hold everything, and ``ddpm track sync``
makes up for it; that command fails where the store does. Others write to the store too: what it holds is external data.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import time
from collections.abc import Callable
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar

from filelock import FileLock
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from ddpm.base import errors, paths
from ddpm.base.errors import UserError
from ddpm.params import file
from ddpm.tracking import record as runs
from ddpm.tracking import stores
from ddpm.tracking.record import Point, Record
from ddpm.tracking.stores import SQLITE, TIMEOUT

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

    from ddpm.training.history import Row

T = TypeVar("T")

KEY = "ddpm.run_key"
ARTIFACTS = "ddpm.artifacts"
NOTE = "mlflow.note.content"
VIEW = "mlflow.sharedViewState.ddpm"  # what the runs' page offers under Views
METRICS_PER_BATCH, PARAMS_PER_BATCH, MOST_RUNS = 1000, 100, 50_000  # MLflow's own limits
LOCK_SECONDS = 60.0
GRID = re.compile(r"images/samples\+step\+(\d+)\+")  # what MLflow's log_image calls a picture of ``samples``
# seconds; a store that hangs costs 10 in all: training waits twice at most, for itself and its monitor, two stages once
FIRST_ANSWER, LATER_ANSWERS = "2", "3"
# what a user has set stays; a server that is down must cost seconds, not a quarter of an hour of MLflow's retries
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    TIMEOUT: FIRST_ANSWER,
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


def sync(upto: str | None = None, params: dict[str, Any] | None = None) -> str | None:
    """Bring the configuration's run up to date with the files; its id, or None when tracking is off or fails.

    ``upto`` is the stage that has just run, which nothing here fails: files of later stages may be another
    configuration's. None, for a command, asks DVC which stages are up to date. Raises UserError then when a file is
    missing, no stage is up to date, or the store fails. ``params`` is what the stage was started with; None: what
    params.yaml holds now.
    """
    if upto is None:
        os.environ.setdefault(TIMEOUT, "60")  # no training waits
        return Tracker(strict=True).sync()
    return Tracker().sync(upto, params)


def live(params: dict[str, Any], on: bool = True) -> Live:
    """A context for the train stage: the curve is sent as it grows, system metrics every ten seconds; or not ``on``.

    ``params`` is what the stage was started with. Left without an error it syncs the run, so the stage's files are
    written and its inputs checked inside it.
    """
    tracker = Tracker()
    tracker.off |= not on
    return Live(tracker, params)


def attach(path: Path) -> str | None:
    """Log a file with the configuration's run, brought up to date first, in place of one of that name; as ``sync``."""
    tracker = Tracker(strict=True)
    if run_id := tracker.sync():
        tracker.attempt(lambda: tracker.client.log_artifact(run_id, str(path)))
    return run_id


class Logged(NamedTuple):
    """A run as the store has it: params in text, each metric's last value, seconds since the epoch of its start."""

    name: str
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]
    started: float


def logged() -> list[Logged]:
    """The experiment's runs, newest first; none when tracking is off, or the store is absent or fails."""
    tracker = Tracker()
    return [] if tracker.absent else tracker.attempt(tracker.logged) or []


class Tracker:
    """A process's way to MLflow. Of the store's failures it warns, or, where ``strict``, raises UserError."""

    def __init__(self, strict: bool = False) -> None:
        self.strict = strict
        self.patience = os.environ.get(TIMEOUT, LATER_ANSWERS)
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        self.root = Path(os.environ.get("DVC_ROOT", ".")).resolve()
        self.uri = os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}{self.root / 'mlflow.db'}"
        self.database = Path(self.uri.removeprefix(SQLITE)) if self.uri.startswith(SQLITE) else None
        self.experiment_name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "ddpm"
        self.off = os.environ.get("DDPM_TRACKING") == "off"

    @property
    def absent(self) -> bool:
        """Whether the store is a file that is not there yet."""
        return self.database is not None and not self.database.exists()

    def sync(self, upto: str | None = None, params: dict[str, Any] | None = None) -> str | None:
        return self.attempt(lambda: self._sync(upto, params))

    def attempt(self, action: Callable[[], T]) -> T | None:
        """Do it, unless tracking is off. Whatever it raises switches tracking off, and is warned of or, where
        ``strict``, raised as UserError: this is the one place where tracking fails."""
        if self.off:
            return None
        try:
            if not self.patience.isdecimal():
                raise UserError(
                    f"{TIMEOUT}: {self.patience!r} is not a whole number of seconds; unset it for {LATER_ANSWERS}"
                )
            if not self.absent:  # to open a database is to make it
                stores.probe(self.uri)
            return action()
        except Exception as error:
            self.off = True
            line = f"MLflow at {errors.masked(self.uri)} failed ({_reason(error, self.uri)})"
            if self.strict:
                if isinstance(error, UserError):
                    raise
                raise UserError(line) from error
            print(f"warning: {line}; going on without it: `ddpm track sync` logs the run later", file=sys.stderr)
            return None

    @cached_property
    def client(self) -> MlflowClient:
        """Made under ``locked``: two processes that create the database together leave it unusable."""
        from mlflow import MlflowClient

        logging.getLogger("alembic").setLevel(logging.WARNING)
        # they report a store that is down or locked, which ``attempt`` has done
        for name in ("mlflow.system_metrics", "mlflow.store.db.utils", "urllib3.connectionpool"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        if self.database and self.absent:
            stores.create(self.database)
        stores.bound_waits()
        client = MlflowClient(tracking_uri=self.uri)
        client.get_experiment_by_name(self.experiment_name)
        os.environ[TIMEOUT] = self.patience
        return client

    def locked(self) -> FileLock:
        """Raises filelock.Timeout, an OSError."""
        lock = self.root / ".ddpm" / "mlflow.lock"
        lock.parent.mkdir(exist_ok=True)
        return FileLock(lock, timeout=LOCK_SECONDS)

    def open(self, record: Record, belongs: Callable[[Run, list[Metric]], bool]) -> tuple[Run, list[Metric]]:
        """The record's run and its history of ``loss``; anew when there is none or its history does not belong."""
        for run in self.client.search_runs([self.experiment], f"tags.`{KEY}` = '{record.key}'", max_results=1):
            history = self.client.get_metric_history(run.info.run_id, "loss")
            if belongs(run, history):
                self._describe(run, record)
                return run, history
            self.client.delete_run(run.info.run_id)
        trained = record.curve[-1].milliseconds if record.curve else 0
        tags = runs.environment()
        run = self.client.create_run(
            self.experiment,
            start_time=round(time.time() * 1000) - trained,
            tags=record.facts | {KEY: record.key, "mlflow.source.name": "dvc repro", NOTE: record.note(tags)} | tags,
            run_name=record.name(tags),
        )
        self._describe(run, record)
        return run, []

    def logged(self) -> list[Logged]:
        with self.locked():
            experiment = self.client.get_experiment_by_name(self.experiment_name)
        if experiment is None:
            return []
        return [
            Logged(
                name=run.info.run_name or run.info.run_id,
                params=run.data.params,
                metrics=run.data.metrics,
                tags=run.data.tags,
                started=(run.info.start_time or 0) / 1000,
            )
            for run in self.client.search_runs([experiment.experiment_id], max_results=MOST_RUNS)
        ]

    @cached_property
    def experiment(self) -> str:
        from mlflow.exceptions import MlflowException

        name = self.experiment_name
        if found := self.client.get_experiment_by_name(name):
            return str(found.experiment_id)
        view = json.loads(resources.files("ddpm.tracking").joinpath("mlflow_view.json").read_text())
        artifacts = (self.root / "mlartifacts").as_uri() if self.database else None
        tags = {VIEW: json.dumps(view | {"state": json.dumps(view["state"])})}
        try:
            return self.client.create_experiment(name, artifacts, tags)
        except MlflowException:
            # another machine has made it on the same server in between
            if found := self.client.get_experiment_by_name(name):
                return str(found.experiment_id)
            raise

    def send(self, run: Run, points: list[Point]) -> None:
        """Points of the curve, stamped by the time of training: sent again they are the same rows."""
        from mlflow.entities import Metric

        start = run.info.start_time
        # a step's values travel together: whether the step has a loss then says whether it has been sent
        per_batch = METRICS_PER_BATCH // max((len(point.values) for point in points), default=1)
        for first in range(0, len(points), per_batch):
            metrics = [
                Metric(key, value, start + point.milliseconds, point.step)
                for point in points[first : first + per_batch]
                for key, value in point.values.items()
            ]
            self.client.log_batch(run.info.run_id, metrics=metrics)

    def _describe(self, run: Run, record: Record) -> None:
        """Params and dataset, where they are missing. A param that is no part of the key keeps its first value."""
        from mlflow.entities import Dataset, DatasetInput, InputTag, Param

        run_id = run.info.run_id
        params = [Param(key, value) for key, value in record.params.items() if key not in run.data.params]
        for first in range(0, len(params), PARAMS_PER_BATCH):
            self.client.log_batch(run_id, params=params[first : first + PARAMS_PER_BATCH])
        if not (run.inputs and run.inputs.dataset_inputs):
            dataset = Dataset(
                name=record.facts["dataset"],
                digest=record.dataset.digest,
                source_type="local",
                source=json.dumps({"uri": str(paths.PROCESSED)}),
                profile=record.dataset.model_dump_json(),
            )
            self.client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])

    def _sync(self, upto: str | None, params: dict[str, Any] | None) -> str:
        if (last := upto or runs.finished()) is None:
            raise UserError("track sync: no stage is up to date with params.yaml and the code; run `dvc repro` first")
        record = runs.read(last, params or file.read())
        with self.locked():
            run, history = self.open(record, lambda run, history: _same(run, history, record.curve))
            run_id: str = run.info.run_id
            there = {metric.step for metric in history}
            self.send(run, [point for point in record.curve if point.step not in there])
            self._send_scores(run, record)
            self._send_pictures(run, record)
            note = record.note(run.data.tags)
            for tag, value in ({NOTE: note} | record.facts).items():
                if run.data.tags.get(tag) != value:
                    self.client.set_tag(run_id, tag, value)
            if run.info.status != "FINISHED":
                self.client.set_terminated(run_id, "FINISHED")
            return run_id

    def _send_scores(self, run: Run, record: Record) -> None:
        """A score that was measured again, and came out otherwise, is the next step of its history."""
        from mlflow.entities import Metric

        now = round(time.time() * 1000)
        new = []
        for key, value in record.scores.items():
            if key not in run.data.metrics:
                new.append(Metric(key, value, now, 0))
            elif run.data.metrics[key] != value:
                history = self.client.get_metric_history(run.info.run_id, key)
                new.append(Metric(key, value, now, max((metric.step for metric in history), default=-1) + 1))
        self.client.log_batch(run.info.run_id, metrics=new)

    def _send_pictures(self, run: Run, record: Record) -> None:
        run_id = run.info.run_id
        names = (GRID.match(file.path) for file in self.client.list_artifacts(run_id, "images"))
        logged = {int(name[1]) for name in names if name}
        for step, path in record.grids.items():
            if step not in logged:
                stamp = run.info.start_time + record.milliseconds(step)
                with Image.open(path) as image:
                    self.client.log_image(run_id, image, key="samples", step=step, timestamp=stamp)
        sent = _sent(run.data.tags.get(ARTIFACTS, "{}"))
        for artifact, sha256 in record.artifacts.items():
            if sent.get(artifact) != sha256:
                self.client.log_artifact(run_id, artifact, Path(artifact).parent.name)
        if record.artifacts != sent:
            self.client.set_tag(run_id, ARTIFACTS, json.dumps(sent | record.artifacts, sort_keys=True))


class Live:
    """The run of a training process.

    Rows wait in memory until ``flush``, to be called right after a checkpoint: a process that is killed goes on from
    there with rows that have not been sent. Rows of a training that fails stay unsent.
    """

    def __init__(self, tracker: Tracker, params: dict[str, Any]):
        self.tracker = tracker
        self.params = params
        self.waiting: list[Row] = []
        self.flushed = False
        self.run: Any = None
        self.monitor: Any = None

    def __enter__(self) -> Self:
        self.tracker.attempt(self._begin)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        status = "FINISHED" if kind is None else "FAILED" if issubclass(kind, Exception) else "KILLED"
        self.tracker.attempt(lambda: self._stop(status))
        if kind is None:
            self.tracker.sync("train", self.params)

    def log(self, row: Row) -> None:
        if not self.tracker.off:
            self.waiting.append(row)

    def flush(self) -> None:
        """Send the waiting rows."""
        if self.waiting:
            self.tracker.attempt(self._flush)
            self.waiting = []

    def _begin(self) -> None:
        self.record = runs.read(None, self.params)
        self._resume(lambda _, history: True)

    def _resume(self, belongs: Callable[[Run, list[Metric]], bool]) -> None:
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        with self.tracker.locked():
            run, _ = self.tracker.open(self.record, belongs)
        if self.run:
            if run.info.run_id == self.run.info.run_id:
                return
            self.monitor.finish()
        self.run = run
        self.tracker.client.update_run(run.info.run_id, status="RUNNING")
        monitor: Any = SystemMetricsMonitor  # which has no types
        self.monitor = monitor(run.info.run_id, resume_logging=True, tracking_uri=self.tracker.uri)
        self.monitor.start()

    def _stop(self, status: str) -> None:
        self.tracker.client.set_terminated(self.run.info.run_id, status)
        self.monitor.finish()

    def _flush(self) -> None:
        if not self.flushed:
            first = self.waiting[0].step  # tells whether training went on from a checkpoint or began again
            self._resume(lambda _, history: all(metric.step < first for metric in history))
            self.flushed = True
        self.tracker.send(self.run, [Point.of(row._asdict()) for row in self.waiting])


def _same(run: Run, history: list[Metric], curve: list[Point]) -> bool:
    """Whether every loss in the history is a point of the curve."""
    stamps = {point.step: (run.info.start_time + point.milliseconds, point.values["loss"]) for point in curve}
    return all(stamps.get(metric.step) == (metric.timestamp, metric.value) for metric in history)


def _sent(tag: str) -> dict[str, str]:
    """Of the tag ARTIFACTS: path -> sha256; of a tag that says anything else nothing, so that all are sent again."""
    try:
        return TypeAdapter(dict[str, str]).validate_json(tag)
    except ValidationError:
        return {}


def _reason(error: BaseException, uri: str) -> str:
    """Its first cause, in one line: the kind of exception, and what it says first. A UserError says enough."""
    while not isinstance(error, UserError) and (deeper := error.__cause__ or error.__context__):
        error = deeper
    said = errors.reason(error, uri)
    return said if isinstance(error, UserError) else f"{type(error).__name__}: {said}"
