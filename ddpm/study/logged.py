"""A study in MLflow: a parent run with its verdict, and its experiments' runs as children, also other machines'.

Like every run it is a view of files, and can be written again: nothing is sent twice. The experiments are read from git
and DVC's cache, one slot at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import chdir, redirect_stderr
from io import StringIO
from pathlib import Path

from ddpm.base.errors import UserError, printable
from ddpm.params import file
from ddpm.runs.library import below, repository
from ddpm.study import slots
from ddpm.study.plan import Study
from ddpm.study.results import Ledger, Result
from ddpm.tracking import record, syncing
from ddpm.tracking.record import BASELINE, EXPERIMENT, NOTE
from ddpm.tracking.store import Store

STUDY, PARENT = "ddpm.study", "mlflow.parentRunId"
LONGEST = 7900  # characters of a page: MLflow cuts a tag at 8,000, in the middle of a word and with a warning


def sync(ledger: Ledger, files: Sequence[Path]) -> list[str]:
    """Write the study's run and those of its results that are missing; return the names of these results.

    files: artifacts of the study; the Markdown one is its page. Raises UserError if tracking is off, the store fails or
    data is not in the cache.
    """
    study, store = ledger.study, Store(strict=True)

    def write() -> list[str]:
        parent = _parent(store, study)
        tags = [run.data.tags for run in store.runs()]
        known = {each.get(EXPERIMENT) for each in tags if each.get(PARENT) == parent}
        new = [result for result in ledger.done.values() if result.name not in known and not result.diverged]
        for result in new:
            _add(store, parent, result)
        page = "\n\n".join([study.plan.question, *(path.read_text() for path in files if path.suffix == ".md")])
        if len(page) > LONGEST:
            page = page[:LONGEST].rpartition("\n")[0] + "\n\nThe rest is in verdict.md, among the run's artifacts."
        store.client.set_tag(parent, NOTE, page)
        for path in files:
            store.client.log_artifact(parent, str(path))
        store.client.set_terminated(parent)
        return [result.name for result in new]

    if (sent := store.attempt(write)) is None:
        raise UserError("MLflow: nothing was written: DDPM_TRACKING is off")
    return sent


def _parent(store: Store, study: Study) -> str:
    """The id of the study's run, created if there is none."""
    with store.locked():
        client, experiment = store.client, store.experiment
        found = client.search_runs([experiment], f"tags.`{STUDY}` = '{study.name}'", max_results=1)
        tags = {STUDY: study.name, "ddpm.plan": study.hash, "ddpm.primary": study.plan.primary}
        run = found[0] if found else client.create_run(experiment, run_name=f"study {study.name}", tags=tags)
        return str(run.info.run_id)


def _add(store: Store, parent: str, result: Result) -> None:
    """Write the run of one experiment, with its data."""
    from dvc.exceptions import CheckoutError, DvcException
    from dvc.repo import Repo

    with slots.slot(result.commit) as (folder, _), chdir(folder / below(repository())):
        try:
            with Repo() as repo, redirect_stderr(StringIO()):  # DVC's bars would scroll the study's own away
                repo.checkout(force=True)
        except CheckoutError as error:  # its text lists every folder, with a link in colour
            raise UserError(f"{result.name}: its data are not in DVC's cache: `ddpm study pull` gets them") from error
        except (DvcException, OSError) as error:
            raise UserError(f"{result.name}: its data could not be laid out: {printable(str(error))}") from error
        wanted = record.read("evaluate", file.read())
        with store.locked():
            run_id = syncing.complete(store, wanted, {EXPERIMENT: result.name, BASELINE: result.base})
            store.client.set_tag(run_id, PARENT, parent)
