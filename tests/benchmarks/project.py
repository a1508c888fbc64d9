"""A copy of the project to run whole stages in, as a user does."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from ddpm.params import presets

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
# the digits preset in seconds: to check that a benchmark runs, not for its figures
QUICK: dict[str, Any] = {
    "train": {"steps": 40, "grid_every": 0},
    "sample": {"count": 300, "steps": 5},
    "evaluate": {"kid_subsets": 5, "kid_subset_size": 50, "likelihood": {"images": 8, "timesteps": 4}},
}


class Project:
    """The project as it is, with a preset and some of its keys changed; nothing has run yet."""

    def __init__(self, folder: Path, preset: str, changes: Mapping[str, Any]):
        self.folder = folder
        for name in ("ddpm", "stages"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        (folder / ".dvc").mkdir()
        for name in (".dvc/config", ".dvcignore", ".gitignore", "dvc.yaml"):
            shutil.copy(ROOT / name, folder / name)
        self.set(YAML().load(presets.text(preset)), changes)
        foreign = ("DVC_", "MLFLOW_", "DDPM_", "GIT_", "PYTHONPATH")
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(foreign)} | {
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}",  # the copy's ddpm, before an installed one
            "DVC_SITE_CACHE_DIR": str(folder / ".dvc/site"),
            "DVC_NO_ANALYTICS": "1",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        self.run("git", "init", "--quiet")

    def set(self, params: dict[str, Any], changes: Mapping[str, Any]) -> None:
        """Write params.yaml: ``params`` overlaid with ``changes``, nested mappings."""
        _overlay(params, changes)
        YAML().dump(params, self.folder / "params.yaml")

    def run(self, *command: str, tracked: bool = True) -> str:
        """stdout of a command. Raises RuntimeError with its output if it fails."""
        extra = {} if tracked else {"DDPM_TRACKING": "off"}
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment | extra, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def repro(self) -> None:
        self.run("dvc", "repro")

    def stage(self, name: str) -> None:
        """A stage as DVC runs it, untracked."""
        self.run(sys.executable, "-m", "stages", name, tracked=False)


def _overlay(params: dict[str, Any], changes: Mapping[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, Mapping):
            _overlay(params[key], value)
        else:
            params[key] = value
