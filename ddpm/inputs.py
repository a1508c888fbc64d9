"""What a stage of dvc.yaml reads, as DVC sees it: its params' values and its dependencies' contents.

DVC hashes dependencies after a command has run (treeverse/dvc#11058), so the stages digest them themselves before
and after; the resume state and the MLflow runs are named by the same digest.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from ddpm import files, params_file
from ddpm.errors import UserError

DVC_YAML = Path("dvc.yaml")


class Inputs(NamedTuple):
    """params: the keys listed for the stage with their values; files: sha256 of each dependency."""

    params: dict[str, Any]
    files: dict[str, str]

    def fingerprint(self) -> str:
        return files.digest([self.params, self.files])


def stage(name: str, params: dict[str, Any], dvc_yaml: Path = DVC_YAML) -> tuple[list[str], list[str]]:
    """The params keys and the dependency paths that dvc.yaml lists for the stage, ``${...}`` filled in."""
    listed = yaml.safe_load(dvc_yaml.read_text())["stages"][name]
    deps = [re.sub(r"\$\{([\w.]+)\}", lambda key: str(lookup(params, key[1])), dep) for dep in listed.get("deps", [])]
    return listed.get("params", []), deps


def read(*names: str, leave_out: tuple[str, ...] = ()) -> Inputs:
    """Digest the inputs of one stage, or of several together, less dependencies at or below ``leave_out``.

    Raises UserError when a dependency is missing.
    """
    params = params_file.read()
    listed = [stage(name, params) for name in names]
    keys = dict.fromkeys(key for stage_keys, _ in listed for key in stage_keys)
    deps = dict.fromkeys(dep for _, stage_deps in listed for dep in stage_deps)
    kept = [Path(dep) for dep in deps if not any(Path(dep).is_relative_to(out) for out in leave_out)]
    if missing := [dep for dep in kept if not dep.exists()]:
        raise UserError(f"{missing[0]}: no such file; {', '.join(names)} needs it: run `dvc repro`")
    return Inputs({key: lookup(params, key) for key in keys}, {str(dep): files.sha256(dep) for dep in kept})


def lookup(params: dict[str, Any], key: str) -> Any:
    """The value at ``section.field``; None where it is not set."""
    value: Any = params
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value
