"""A configuration's run in the store, brought up to date with its record.

MLflow cannot take a metric back: if a configuration is trained again and gets another curve, its run is deleted
(``mlflow gc`` would purge it) and a new one is created.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag
from PIL import Image

from ddpm.base.paths import PROCESSED
from ddpm.tracking import record
from ddpm.tracking.record import KEY, NOTE, Point, Record
from ddpm.tracking.store import Store

LEARNED = "learned."  # begins the name of a score that is logged by images seen


def complete(store: Store, wanted: Record, experiment: Mapping[str, str] | None = None) -> str:
    """Send what the run does not have yet; return its id. Doing it twice, or again after a crash, changes nothing.

    experiment: as for ``find``.
    """
    client, run = store.client, find(store, wanted, experiment)
    sent, start = history(client, run), run.info.start_time
    curve = {point.step: (start + point.milliseconds, point.values["loss"]) for point in wanted.curve}
    if any(curve.get(point.step) != (point.timestamp, point.value) for point in sent):
        client.delete_run(run.info.run_id)
        run, sent = find(store, wanted, experiment), []
    run_id: str = run.info.run_id
    steps = {point.step for point in sent}
    send(client, run, (point for point in wanted.curve if point.step not in steps))

    known, now = run.data.metrics, round(time.time() * 1000)
    scores = [
        # a score measured again with another result becomes the next step of its history
        Metric(key, value, now, len(client.get_metric_history(run_id, key)) if key in known else 0)
        for key, value in wanted.scores.items()
        if known.get(key) != value
    ]
    end = wanted.learned[max(wanted.learned)] if wanted.learned else {}
    scores += [
        Metric(f"{LEARNED}{key}", row[key], now, images)  # its step is the number of images seen
        for key, value in end.items()
        if known.get(f"{LEARNED}{key}") != value
        for images, row in wanted.learned.items()
        if key in row
    ]
    tags = wanted.facts | {NOTE: wanted.note(run.data.tags)}
    client.log_batch(run_id, scores, tags=[RunTag(key, value) for key, value in tags.items()])

    pictures = " ".join(file.path for file in client.list_artifacts(run_id, "images"))
    for step, path in wanted.grids.items():
        if f"images/samples+step+{step}+" not in pictures:
            with Image.open(path) as image:
                client.log_image(run_id, image, key="samples", step=step)
    for path in wanted.artifacts:
        client.log_artifact(run_id, str(path), path.parent.name)
    if run.info.status != "FINISHED":
        client.set_terminated(run_id)
    return run_id


def find(store: Store, wanted: Record, experiment: Mapping[str, str] | None = None) -> Run:
    """The record's run, created if there is none, with params and dataset. Params outside the key keep their values.

    Call it under ``store.locked()``. experiment: tags that name DVC's, where the environment does not.
    """
    client = store.client
    found = client.search_runs([store.experiment], f"tags.`{KEY}` = '{wanted.key}'", max_results=1)
    if found:
        run = found[0]
    else:
        trained = wanted.curve[-1].milliseconds if wanted.curve else 0
        tags = {**record.environment(), **(experiment or {})}
        run = client.create_run(
            store.experiment,
            start_time=round(time.time() * 1000) - trained,
            tags=wanted.facts | {KEY: wanted.key, "mlflow.source.name": "dvc repro", NOTE: wanted.note(tags)} | tags,
            run_name=wanted.name(tags),
        )
    params = [Param(key, value) for key, value in wanted.params.items() if key not in run.data.params]
    client.log_batch(run.info.run_id, params=params)
    if not (run.inputs and run.inputs.dataset_inputs):
        dataset = Dataset(
            name=wanted.facts["dataset"],
            digest=wanted.dataset.digest,
            source_type="local",
            source=json.dumps({"uri": str(PROCESSED)}),
            profile=wanted.dataset.model_dump_json(),
        )
        client.log_inputs(run.info.run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
    return run


def history(client: MlflowClient, run: Run) -> list[Metric]:
    """The points of the curve that the run already has, by their loss."""
    return client.get_metric_history(run.info.run_id, "loss")


def send(client: MlflowClient, run: Run, points: Iterable[Point]) -> None:
    """Send points of the curve, stamped with the time of training: sent again, they are the same rows."""
    start = run.info.start_time
    metrics = [
        Metric(key, value, start + point.milliseconds, point.step)
        for point in points
        for key, value in point.values.items()
    ]
    # MLflow sends batches in this order: a step that has a loss has the rest too
    client.log_batch(run.info.run_id, sorted(metrics, key=lambda metric: metric.key == "loss"))
