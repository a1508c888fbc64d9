"""The commit behind a run, as MLflow tags."""

import os
from contextlib import suppress

import pygit2

from ddpm.base.errors import UserError, mask_secrets
from ddpm.runs import library

COMMIT, DIRTY = "mlflow.source.git.commit", "ddpm.git.dirty"
EXPERIMENT, BASELINE = "dvc.exp.name", "dvc.exp.baseline"  # of a DVC experiment


def tags() -> dict[str, str]:
    """Tags for the commit and the DVC experiment; no value contains a password."""
    values = {EXPERIMENT: os.environ.get("DVC_EXP_NAME", ""), BASELINE: os.environ.get("DVC_EXP_BASELINE_REV", "")}
    with suppress(UserError, pygit2.GitError):  # no repository, or no commit
        git = library.repository()
        urls = {remote.name: remote.url or "" for remote in git.remotes}
        values["mlflow.source.git.repoURL"] = mask_secrets(urls.get("origin", ""))
        values[COMMIT] = str(git.head.target)
        values[DIRTY] = "true" if library.find_uncommitted(("params.yaml", "dvc.yaml", "ddpm", "stages")) else "false"
    return {tag: text for tag, text in values.items() if text}
