"""A study in MLflow: a parent run with its verdict, and its experiments' runs as children, also other machines'.

Like every run it is a view of files, and can be written again: nothing is sent twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ddpm.base.errors import UserError
from ddpm.runs import library
from ddpm.study.plan import Study
from ddpm.study.results import Ledger
from ddpm.tracking import tracker
from ddpm.tracking.store import Store

STUDY = "ddpm.study"
LONGEST = 7900  # characters of a page: MLflow cuts a tag at 8,000, in the middle of a word and with a warning


def sync(ledger: Ledger, files: Sequence[Path]) -> int:
    """Write the study's run and those of its results; return how many results there are.

    files: artifacts of the study; the Markdown one is its page. Raises UserError if tracking is off or the store fails.
    """
    study, store = ledger.study, Store(strict=True)

    def write() -> int:
        parent = _parent(store, study)
        finished = [result for result in ledger.done.values() if not result.diverged]
        for result in finished:
            run = library.revision(result.commit).model_copy(update={"name": result.name})
            tracker.write(store, run, parent)
        page = "\n\n".join([study.plan.question, *(path.read_text() for path in files if path.suffix == ".md")])
        if len(page) > LONGEST:
            page = page[:LONGEST].rpartition("\n")[0] + "\n\nThe rest is in verdict.md, among the run's artifacts."
        store.client.set_tag(parent, tracker.NOTE, page)
        for path in files:
            store.client.log_artifact(parent, str(path))
        store.client.set_terminated(parent)
        return len(finished)

    if (sent := store.attempt(write)) is None:
        raise UserError("MLflow: nothing was written: DDPM_TRACKING is off")
    return sent


def _parent(store: Store, study: Study) -> str:
    """The id of the study's run, created if there is none."""
    with store.lock:
        client, experiment = store.client, store.experiment
        found = client.search_runs([experiment], f"tags.`{STUDY}` = '{study.name}'", max_results=1)
        tags = {STUDY: study.name, "ddpm.plan": study.hash, "ddpm.primary": study.plan.primary}
        run = found[0] if found else client.create_run(experiment, run_name=f"study {study.name}", tags=tags)
        return str(run.info.run_id)
