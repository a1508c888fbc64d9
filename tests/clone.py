"""A copy of this project in a repository of its own, and commands in it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from ddpm.params import presets
from tests.small_project import set_params

ROOT = Path(__file__).parents[1]
FILES = (".dvc/.gitignore", ".dvc/config", ".dvcignore", ".gitignore", "data/.gitignore", "dvc.yaml", "metrics/*.*")
# the digits preset in seconds: a tiny network on a short chain, 40 steps
PARAMS = {
    "launch": {"processes": 1},
    "diffusion": {"T": 50},
    "model": {"unet": {"base_channels": 8, "multipliers": [1, 2], "attention_sizes": [8], "groups": 4}},
    "train": {"steps": 40, "batch_size": 16, "precision": "float32", "checkpoint_every": 10, "grid_every": 20},
    "sample": {"count": 120, "seeds": [0, 1], "batch_size": 64, "steps": 10, "precision": "float32"},
    "evaluate": {
        "extractors": ["auto", "components"],
        "metrics": ["fid", "isc", "kid", "prc", "c2st"],
        "kid_subsets": 5,
        "kid_subset_size": 50,
        "c2st": {"images": 100, "steps": 10},
        "likelihood": {"images": 8, "timesteps": 5},
    },
}


def environment(folder: Path) -> dict[str, str]:
    """Of commands in a copy of the project, with nothing that is the user's."""
    foreign = ("DVC_", "MLFLOW_", "DDPM_", "GIT_", "PYTHONPATH")
    return {name: value for name, value in os.environ.items() if not name.startswith(foreign)} | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DVC_SITE_CACHE_DIR": str(folder.parent / "site"),
        "DVC_NO_ANALYTICS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "GIT_CONFIG_GLOBAL": os.devnull,
        **{f"GIT_{who}_{what}": "t@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }


class Clone:
    """The code as it is, with a preset's params and ``changes`` to them, committed. Nothing has run yet."""

    def __init__(self, folder: Path, preset: str = "digits", changes=PARAMS):
        self.folder, self.environment = folder, environment(folder)
        for name in ("ddpm", "stages"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        for path in (path for pattern in FILES for path in ROOT.glob(pattern)):
            (folder / path.relative_to(ROOT)).parent.mkdir(exist_ok=True)
            shutil.copy(path, folder / path.relative_to(ROOT))
        (folder / "params.yaml").write_text(presets.text(preset))
        self.set(changes)
        self.run("git", "init", "--quiet")
        self.commit()

    def start(self, *command: str, **more: str) -> subprocess.Popen[str]:
        """more: environment variables."""
        output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(command, cwd=self.folder, env=self.environment | more, **output)

    def run(self, *command: str, **more: str) -> str:
        """stdout and stderr of a command. Raises RuntimeError with them if it fails."""
        process = self.start(*command, **more)
        output, _ = process.communicate()
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)}: exit code {process.returncode}\n{output[-4000:]}")
        return output

    def stage(self, name: str) -> None:
        """A stage as DVC runs it, untracked."""
        self.run(sys.executable, "-m", "stages", name, DDPM_TRACKING="off")

    def commit(self) -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", "an experiment")

    def set(self, changes) -> None:
        """Write the changes into params.yaml."""
        set_params(self.folder, **changes)
