"""A clone of this project, and commands in it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
# the digits preset in seconds: a tiny network on a short chain, 40 steps
PARAMS: dict[str, dict[str, Any]] = {
    "launch": {"processes": 1},
    "diffusion": {"T": 50},
    "model": {
        "name": "unet",
        "unet": {"base_channels": 8, "multipliers": [1, 2], "blocks": 1, "attention_sizes": [8], "groups": 4},
    },
    "train": {"steps": 40, "batch_size": 16, "precision": "float32", "checkpoint_every": 10, "grid_every": 20},
    "sample": {"count": 120, "seeds": [0, 1], "batch_size": 64, "steps": 10, "precision": "float32"},
    "evaluate": {"kid_subsets": 5, "kid_subset_size": 50, "likelihood": {"images": 8, "timesteps": 5}},
}


class Clone:
    """A clone of this project with small params, and commands run in it."""

    def __init__(self, folder: Path):
        self.folder = folder
        # conftest.py has taken out of it what is the user's
        self.environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self.environment |= {"DVC_SITE_CACHE_DIR": str(folder.parent / "site"), "GIT_CONFIG_GLOBAL": os.devnull}

    def start(self, *command: str) -> subprocess.Popen[str]:
        output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(command, cwd=self.folder, env=self.environment, **output)  # type: ignore[call-overload]

    def run(self, *command: str) -> str:
        """stdout and stderr of a command that must succeed."""
        process = self.start(*command)
        output, _ = process.communicate(timeout=240)
        assert process.returncode == 0, output[-4000:]
        return output

    def commit(self) -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", "an experiment")

    def set(self, sections: Mapping[str, Mapping[str, Any]]) -> None:
        yaml, path = YAML(), self.folder / "params.yaml"
        params = yaml.load(path)
        for section, values in sections.items():
            params[section].update(values)
        yaml.dump(params, path)
