"""A configuration's run in the store, brought up to date with its record.

MLflow cannot take a metric back: when a configuration is trained again with another curve, its run is deleted
(``mlflow gc`` would purge it) and a new one is made.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from PIL import Image

from ddpm.base.paths import PROCESSED
from ddpm.tracking import record as records
from ddpm.tracking.record import Point, Record
from ddpm.tracking.store import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

KEY = "ddpm.run_key"
NOTE = "mlflow.note.content"


def complete(store: Store, record: Record) -> str:
    """Send what the run does not have yet; its id. Doing it twice, or again after a crash, changes nothing."""
    from mlflow.entities import Metric, RunTag

    client = store.client
    run = find(store, record)
    sent = history(client, run)
    curve = {point.step: (run.info.start_time + point.milliseconds, point.values["loss"]) for point in record.curve}
    if any(curve.get(point.step) != (point.timestamp, point.value) for point in sent):
        run, sent = replace(store, record, run), []
    run_id: str = run.info.run_id
    steps = {point.step for point in sent}
    send(client, run, (point for point in record.curve if point.step not in steps))

    known, now = run.data.metrics, round(time.time() * 1000)
    scores = [
        # a score that was measured again with another result is the next step of its history
        Metric(key, value, now, len(client.get_metric_history(run_id, key)) if key in known else 0)
        for key, value in record.scores.items()
        if known.get(key) != value
    ]
    tags = record.facts | {NOTE: record.note(run.data.tags)}
    client.log_batch(run_id, scores, tags=[RunTag(key, value) for key, value in tags.items()])

    pictures = " ".join(file.path for file in client.list_artifacts(run_id, "images"))
    for step, path in record.grids.items():
        if f"images/samples+step+{step}+" not in pictures:
            with Image.open(path) as image:
                client.log_image(run_id, image, key="samples", step=step)
    for path in record.artifacts:
        client.log_artifact(run_id, str(path), path.parent.name)
    if run.info.status != "FINISHED":
        client.set_terminated(run_id)
    return run_id


def find(store: Store, record: Record) -> Run:
    """The record's run, made if there is none."""
    for run in store.client.search_runs([store.experiment], f"tags.`{KEY}` = '{record.key}'", max_results=1):
        _describe(store.client, run, record)
        return run
    return _create(store, record)


def replace(store: Store, record: Record, run: Run) -> Run:
    """A new run in place of ``run``."""
    store.client.delete_run(run.info.run_id)
    return _create(store, record)


def history(client: MlflowClient, run: Run) -> list[Metric]:
    """The points of the curve that the run has, by their loss."""
    return client.get_metric_history(run.info.run_id, "loss")


def send(client: MlflowClient, run: Run, points: Iterable[Point]) -> None:
    """Points of the curve, stamped by the time of training: sent again they are the same rows."""
    from mlflow.entities import Metric

    start = run.info.start_time
    metrics = [
        Metric(key, value, start + point.milliseconds, point.step)
        for point in points
        for key, value in point.values.items()
    ]
    # MLflow sends batches in this order: a step that has a loss has the rest, too
    client.log_batch(run.info.run_id, sorted(metrics, key=lambda metric: metric.key == "loss"))


def _create(store: Store, record: Record) -> Run:
    trained = record.curve[-1].milliseconds if record.curve else 0
    tags = records.environment()
    run = store.client.create_run(
        store.experiment,
        start_time=round(time.time() * 1000) - trained,
        tags=record.facts | {KEY: record.key, "mlflow.source.name": "dvc repro", NOTE: record.note(tags)} | tags,
        run_name=record.name(tags),
    )
    _describe(store.client, run, record)
    return run


def _describe(client: MlflowClient, run: Run, record: Record) -> None:
    """Params and dataset, where they are missing. A param outside the key keeps its first value."""
    from mlflow.entities import Dataset, DatasetInput, InputTag, Param

    params = [Param(key, value) for key, value in record.params.items() if key not in run.data.params]
    client.log_batch(run.info.run_id, params=params)
    if not (run.inputs and run.inputs.dataset_inputs):
        dataset = Dataset(
            name=record.facts["dataset"],
            digest=record.dataset.digest,
            source_type="local",
            source=json.dumps({"uri": str(PROCESSED)}),
            profile=record.dataset.model_dump_json(),
        )
        client.log_inputs(run.info.run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
