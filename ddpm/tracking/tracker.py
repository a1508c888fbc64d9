"""MLflow: one run for each result, a view of the run's record.

During a training its run grows: ``Live`` sends the loss at each checkpoint. When the evaluate stage has written
metrics/run.json, ``sync`` completes that run with params, scores, costs and pictures, or writes a whole one. A complete
run is never written again. No stage fails because of tracking: it prints one warning, and ``ddpm track sync`` writes
the run later. mlflow takes 1-3 s to import, and reads the settings that Store makes, so it is imported inside
functions.
"""

import csv
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeAlias

from PIL import Image

from ddpm.base.errors import UserError, printable
from ddpm.base.files import is_own
from ddpm.base.paths import GRIDS, LOSS, RUN
from ddpm.base.sections import Affects
from ddpm.params import config, file, inputs
from ddpm.runs import library, record
from ddpm.runs.record import Record
from ddpm.tracking import view
from ddpm.tracking.store import Store

Run: TypeAlias = Any  # of mlflow.entities, whose import takes seconds
KEY = "ddpm.result"  # tag: the digest of the result
TRAINING = "ddpm.training"  # tag: the digest of the training's inputs
PARENT, NOTE = "mlflow.parentRunId", "mlflow.note.content"  # tags: the parent run; the text on the run's page


def sync(params: dict[str, Any] | None = None) -> str | None:
    """Write the run of metrics/run.json with the working folder's curve and pictures; return its id, or None if
    tracking is off or fails.

    params: what the evaluate stage, which has just written it, was started with. Without them, for a command, this
    raises UserError if there is no record, it is not of params.yaml and the code, or the store fails.
    """
    store = Store(strict=params is None)
    if store.off:
        return None
    run, plain = record.read_record(RUN), params or file.read_params()
    if params is None and (why := library.why_stale(run, config.parse(plain).flat())):
        raise UserError(f"{RUN}: its run does not match params.yaml and the code: {why}; run `dvc repro` first")
    training = inputs.read_inputs("train", params=plain).fingerprint()
    return store.attempt(partial(_complete, store, run, training))


class Page(NamedTuple):
    """A run that lists others, such as a study's."""

    tag: str  # with ``name`` it identifies the run
    name: str
    title: str
    tags: dict[str, str]
    note: str  # Markdown
    files: Sequence[Path]  # artifacts, as far as they exist


def write_page(page: Page, records: Mapping[str, Record]) -> None:
    """Write a page's run, and those of records below it, by name, unless tracking is off. Finished ones stay as they
    are. A failure of the store is a warning: nothing here needs it."""
    store = Store(strict=True)
    try:
        store.attempt(lambda: _write_page(store, page, records))
    except UserError as error:
        print(f"warning: {printable(str(error))}: run the same command again to log it", file=sys.stderr)


def _write_page(store: Store, page: Page, records: Mapping[str, Record]) -> None:
    client = store.client
    with store.lock():
        found = _find(store, page.tag, page.name)
        tags = {page.tag: page.name, **page.tags}
        run = found[0] if found else client.create_run(store.experiment, run_name=page.title, tags=tags)
    parent = str(run.info.run_id)
    query = f"tags.`{PARENT}` = '{parent}' and attributes.status = 'FINISHED'"
    known = {child.data.tags.get(KEY, "") for child in client.search_runs([store.experiment], query, max_results=5000)}
    for title, record_ in records.items():
        if not record_.diverged and record_.result not in known:
            _complete(store, record_, title=title, parent=parent)
    client.set_tag(parent, NOTE, page.note)
    for path in page.files:
        if is_own(path):
            client.log_artifact(parent, str(path))
    client.set_terminated(parent)


def _complete(store: Store, run: Record, training: str | None = None, title: str = "", parent: str = "") -> str:
    """Write the run of a record, or complete it, also after a crash; return its id. Rows that are sent twice are equal,
    so MLflow keeps one. training: the digest of the training's inputs, if the working folder holds the result. parent:
    the run that lists it."""
    from mlflow.entities import Metric

    with store.lock():
        key = run.result
        written = _find(store, KEY, key)
        started = _find_open(store, training)
        if written and written[0].info.status == "FINISHED":
            if started:  # the same result, trained again
                store.client.delete_run(started.info.run_id)
            if parent:
                store.client.set_tag(written[0].info.run_id, PARENT, parent)
            return str(written[0].info.run_id)
        tags = view.origin() | {TRAINING: training} if training else {}
        tags |= view.result_tags(run) | {KEY: key, NOTE: view.note(run, tags)} | ({PARENT: parent} if parent else {})
        last = key[:7] if run.name == library.WORKSPACE else run.name
        name = title or view.name({"seed": run.seed} | run.params, last, run.program)
        finished = round(1000 * run.finished.timestamp())
        start = finished - round(1000 * sum(run.costs.seconds.values()))
        client, before = store.client, written[0] if written else started
        at = _open(store, before, name, start, run.params, tags)
        run_id = str(at.info.run_id)
        client.log_batch(run_id, [Metric(key, value, finished, seen) for key, value, seen in view.metrics(run)])
        client.log_text(run_id, run.text(), "metrics/run.json")
        if training:
            sent = {metric.step for metric in client.get_metric_history(run_id, "loss")}
            with LOSS.open(newline="", encoding="utf-8") as file:
                _send(store, at, [row for row in csv.DictReader(file) if int(row["step"]) not in sent])
            _pictures(store, run_id)
        client.set_terminated(run_id, end_time=finished)
        return run_id


def _find(store: Store, tag: str, value: str | None) -> list[Run]:
    """The runs with a tag, newest first."""
    return list(store.client.search_runs([store.experiment], f"tags.`{tag}` = '{value}'")) if value else []


def _find_open(store: Store, training: str | None) -> Run | None:
    """The run of a training that has no result yet."""
    return next((run for run in _find(store, TRAINING, training) if KEY not in run.data.tags), None)


def _open(
    store: Store, before: Run | None, name: str, start: int, params: Mapping[str, Any], tags: Mapping[str, str]
) -> Run:
    """Open the run from ``before``, or a new one; add tags and missing params, because MLflow refuses to change one."""
    from mlflow.entities import Param, RunTag

    at_once = {"mlflow.source.name": "dvc repro", **tags}  # so that it is found after a crash
    run = before or store.client.create_run(store.experiment, start, at_once, name)
    store.client.update_run(run.info.run_id, status="RUNNING", name=name)
    new = [Param(key, value) for key, value in view.texts(params).items() if key not in run.data.params]
    store.client.log_batch(run.info.run_id, params=new, tags=[RunTag(key, value) for key, value in tags.items()])
    return run


def _send(store: Store, run: Run, rows: Iterable[Mapping[str, float | str]]) -> None:
    """Send rows of the loss curve, stamped with the training's own time, so that a second sending changes nothing."""
    from mlflow.entities import Metric

    metrics = [
        Metric(key, value, run.info.start_time + milliseconds, step)
        for step, milliseconds, values in map(view.loss_point, rows)
        for key, value in values.items()
    ]
    # MLflow sends batches in this order: a step that has a loss has the rest too
    store.client.log_batch(run.info.run_id, sorted(metrics, key=lambda metric: metric.key == "loss"))


def _pictures(store: Store, run_id: str) -> None:
    client = store.client
    there = " ".join(file.path for file in client.list_artifacts(run_id, "images"))
    for path in GRIDS.glob("step-[0-9]*.png"):
        step = int(path.stem.removeprefix("step-"))
        if f"images/samples+step+{step}+" not in there:
            with Image.open(path) as image:
                client.log_image(run_id, image, key="samples", step=step)
    for path in filter(Path.exists, map(Path, view.ARTIFACTS)):
        client.log_artifact(run_id, str(path), path.parent.name)


class Live:
    """The run of a training process, with the loss so far. A training that ends before its first ``flush`` has no run
    until ``sync`` writes it.

    params: the stage's params at its start; training: the digest of its inputs.

    Rows wait in memory until ``flush``, which must be called right after a checkpoint: a killed process resumes from
    there, and sends no step twice. A training that fails does not send its last rows.
    """

    def __init__(self, params: dict[str, Any], training: str):
        self.store = Store()
        self.params, self.training = params, training
        self.waiting: list[Any] = []  # rows of ``ddpm.training.history``, which imports torch
        self.run: Run | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if run := self.run:
            if kind is None:
                self.flush()
            status = "FINISHED" if kind is None else "FAILED" if issubclass(kind, Exception) else "KILLED"
            self.store.attempt(lambda: self.store.client.set_terminated(run.info.run_id, status))

    def log(self, row: Any) -> None:
        self.waiting.append(row)

    def flush(self) -> None:
        """Send the waiting rows."""
        if self.waiting:
            self.store.attempt(self._flush)
            self.waiting = []

    def _flush(self) -> None:
        self.run = self.run or self._open_run()
        _send(self.store, self.run, [row._asdict() for row in self.waiting])

    def _open_run(self) -> Run:
        """The run of the training so far; a new one if there is none, or the training has started over."""
        client, first = self.store.client, self.waiting[0].step
        # the other params are sent with the result
        known = config.sections_affecting(Affects.LEARNED, config.parse(self.params).flat())
        with self.store.lock():
            run = _find_open(self.store, self.training)
            if run and any(point.step >= first for point in client.get_metric_history(run.info.run_id, "loss")):
                client.delete_run(run.info.run_id)
                run = None
            start = round(1000 * (time.time() - self.waiting[-1].seconds))
            tags = view.origin() | view.tags(known) | {TRAINING: self.training}
            return _open(self.store, run, view.name(known, self.training[:7]), start, known, tags)
