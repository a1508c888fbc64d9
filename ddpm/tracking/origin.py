"""The commit and the software that a run is made with, as tags of MLflow."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version

from ddpm.base.errors import masked

COMMIT, DIRTY = "mlflow.source.git.commit", "ddpm.git.dirty"
EXPERIMENT, BASELINE = "dvc.exp.name", "dvc.exp.baseline"  # of DVC's experiment, if it is one


def tags() -> dict[str, str]:
    """Tags for the commit, the DVC experiment and the software; no value contains a credential."""
    values = {f"version.{name}": version(name) for name in ("torch", "torchvision", "torch-fidelity", "dvc", "mlflow")}
    values["version.python"] = platform.python_version()
    if commit := _git("rev-parse", "HEAD"):
        changed = _git("status", "--porcelain", "--", "params.yaml", "dvc.yaml", "ddpm", "stages")
        values |= {COMMIT: commit, DIRTY: "true" if changed else "false"}
    values |= {EXPERIMENT: os.environ.get("DVC_EXP_NAME", ""), BASELINE: os.environ.get("DVC_EXP_BASELINE_REV", "")}
    values["mlflow.source.git.repoURL"] = masked(_git("remote", "get-url", "origin"))
    return {tag: text for tag, text in values.items() if text}


def _git(*arguments: str) -> str:
    """git's output; empty outside a repository, before the first commit, or if git is not installed."""
    try:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
