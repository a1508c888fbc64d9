"""A study in MLflow: a parent run with its verdict, and its experiments' runs as children, also other machines'.

Like every run it is a view of files, and can be written again: nothing is sent twice.
"""

from __future__ import annotations

from ddpm.study.experiments import Study
from ddpm.study.ledger import Ledger
from ddpm.tracking import tracker
from ddpm.tracking.store import Store

STUDY = "ddpm.study"
LONGEST = 7900  # characters of a page: MLflow cuts a tag at 8,000, in the middle of a word and with a warning


def sync(ledger: Ledger) -> None:
    """Write the study's run and those of its results, unless tracking is off. The files of its verdict are artifacts,
    and verdict.md is its page. Raises UserError if the store fails."""
    study, store = ledger.study, Store(strict=True)
    page = study.results / "verdict.md"

    def write() -> None:
        parent = _parent(store, study)
        for run in ledger.records.values():
            if not run.diverged:
                tracker.write(store, run, parent)
        text = f"{study.plan.question}\n\n{page.read_text() if page.exists() else ''}"
        if len(text) > LONGEST:
            text = text[:LONGEST].rpartition("\n")[0] + "\n\nThe rest is in verdict.md, among the run's artifacts."
        store.client.set_tag(parent, tracker.NOTE, text)
        for path in sorted(study.results.glob("*.*")):
            store.client.log_artifact(parent, str(path))
        store.client.set_terminated(parent)

    store.attempt(write)


def _parent(store: Store, study: Study) -> str:
    """The id of the study's run, created if there is none."""
    with store.lock:
        client, experiment = store.client, store.experiment
        runs = client.search_runs([experiment], f"tags.`{STUDY}` = '{study.name}'", max_results=1)
        tags = {STUDY: study.name, "ddpm.plan": study.hash, "ddpm.primary": study.plan.primary}
        run = runs[0] if runs else client.create_run(experiment, run_name=f"study {study.name}", tags=tags)
        return str(run.info.run_id)
