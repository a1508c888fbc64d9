"""A study's results in MLflow, including other machines': read from git and DVC's cache, one slot at a time."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import chdir, redirect_stderr
from io import StringIO
from pathlib import Path

from ddpm.base.errors import UserError, printable
from ddpm.compare.snapshots import below, repository
from ddpm.study import slots
from ddpm.study.results import Ledger
from ddpm.tracking.studies import Parent


def sync(ledger: Ledger, files: Sequence[Path]) -> list[str]:
    """Write the study's run and those of its results that are missing; return the names of these results.

    files: artifacts of the study; the Markdown one is its page. Raises UserError if the store fails or data is not in
    the cache.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    study = ledger.study
    parent = Parent(study.name, {"ddpm.plan": study.hash, "ddpm.primary": study.plan.primary})
    known = parent.children()
    new = [result for result in ledger.done.values() if result.name not in known and not result.diverged]
    for result in new:
        with slots.slot(result.commit) as folder, chdir(folder / below(repository())):
            try:
                with Repo() as repo, redirect_stderr(StringIO()):  # DVC's bars would scroll the study's own away
                    repo.checkout(force=True)
            except (DvcException, OSError) as error:
                raise UserError(
                    f"{result.name}: its data are not in DVC's cache ({printable(str(error))}); `ddpm study pull`"
                ) from error
            parent.add(result.name, result.base)
    pages = [path.read_text() for path in files if path.suffix == ".md"]
    parent.finish("\n\n".join([study.plan.question, *pages]), files)
    return [result.name for result in new]
