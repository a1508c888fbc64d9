"""The wheel without extras judges runs that exist: what only trains, samples or scores is in the extra ``train``."""

import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pygit2
import pytest

from ddpm.params import presets

ROOT = Path(__file__).parents[2]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
TRAIN = {re.match(r"[\w-]+", text)[0].lower() for text in EXTRAS["train"]}
MODULES = sorted(name for name, makers in packages_distributions().items() if TRAIN & {one.lower() for one in makers})
SCHEDULES = ROOT / "metrics/studies/schedule"


@pytest.fixture
def clone(folder) -> Path:
    Path("params.yaml").write_text(presets.text("digits_small"))
    shutil.copytree(ROOT / "ladders", "ladders")
    pygit2.init_repository(".")
    return folder


def ddpm(*arguments: object) -> subprocess.CompletedProcess:
    """The command's result where none of the extra's modules can be imported."""
    code = f"import sys; sys.modules.update(dict.fromkeys({MODULES})); from ddpm.cli import main; main()"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100)


@pytest.mark.parametrize(
    "command",
    [
        "--help",
        "preset digits --force",
        "variants --json",
        f"compare --by diffusion.schedule.name --from {SCHEDULES} --json",
        "ladder show night --json",
        "ladder show digits --json",  # its cost is in operations, which torch counts
        "runs --json",
    ],
)
def test_a_command_that_judges_needs_nothing_of_the_extra(command, clone):
    assert {"torch", "mlflow", "dvc", "sklearn"} <= set(MODULES)
    done = ddpm(*command.split())
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_a_table_is_judged_in_an_empty_folder(folder):
    """Without params.yaml and a git repository, too."""
    runs = [
        f"{arm},{seed},{loss + seed / 9 + seed % 2 / 90}" for arm, loss in (("a", 2), ("b", 1)) for seed in range(6)
    ]
    Path("scores.csv").write_text("\n".join(["arm,seed,loss", *runs]))
    done = ddpm("judge", "scores.csv", "--better", "lower", "--out", "verdict", "--table", "t.tex", "t.csv")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("b is better")
    assert {"verdict.md", "verdict.json", "verdict.png"} <= {path.name for path in Path("verdict").iterdir()}
    assert {path.name for path in Path().iterdir()} == {"scores.csv", "verdict", "t.tex", "t.csv"}


def test_a_command_that_draws_names_the_extra(clone):
    done = ddpm("sample", "--model", ROOT / "models/digits")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "torch" in done.stderr
    assert "ddpm-referee[train]" in done.stderr
