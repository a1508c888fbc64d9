"""A study in MLflow: one parent run with its verdict, and its experiments' runs as children.

Like every run it is a view of files, and can be written again: nothing is sent twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from ddpm.base.errors import UserError
from ddpm.params import file
from ddpm.tracking import record as records
from ddpm.tracking import syncing
from ddpm.tracking.record import BASELINE, EXPERIMENT, NOTE
from ddpm.tracking.store import Store

T = TypeVar("T")

STUDY, PARENT = "ddpm.study", "mlflow.parentRunId"


class Parent:
    """The run of the study ``name``, created if there is none. facts: tag -> value.

    Everything raises UserError if the store fails.
    """

    def __init__(self, name: str, facts: Mapping[str, str]):
        self.store = Store(strict=True)
        self.id = self._attempt(lambda: self._find(name, facts))

    def children(self) -> set[str]:
        """The names of its experiments."""
        tags = [run.data.tags for run in self._attempt(self.store.runs)]
        return {each[EXPERIMENT] for each in tags if each.get(PARENT) == self.id and EXPERIMENT in each}

    def add(self, experiment: str, baseline: str) -> None:
        """Write the run of the experiment that is checked out in the working folder, with its data."""

        def complete() -> None:
            record = records.read("evaluate", file.read())
            with self.store.locked():
                run_id = syncing.complete(self.store, record, {EXPERIMENT: experiment, BASELINE: baseline})
                self.store.client.set_tag(run_id, PARENT, self.id)

        self._attempt(complete)

    def finish(self, note: str, files: Iterable[Path]) -> None:
        """note: Markdown for the run's page. files: its artifacts."""

        def write() -> None:
            client = self.store.client
            client.set_tag(self.id, NOTE, note)
            for path in files:
                client.log_artifact(self.id, str(path))
            client.set_terminated(self.id)

        self._attempt(write)

    def _attempt(self, action: Callable[[], T]) -> T:
        if (done := self.store.attempt(lambda: (action(),))) is None:
            raise UserError("MLflow: nothing was written: DDPM_TRACKING is off")
        return done[0]

    def _find(self, name: str, facts: Mapping[str, str]) -> str:
        with self.store.locked():
            client, experiment = self.store.client, self.store.experiment
            for run in client.search_runs([experiment], f"tags.`{STUDY}` = '{name}'", max_results=1):
                return str(run.info.run_id)
            made = client.create_run(experiment, run_name=f"study {name}", tags={STUDY: name, **facts})
            return str(made.info.run_id)
