"""The wheel without extras judges runs that exist: what only trains, samples or scores is in the extra ``train``."""

import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pygit2

from ddpm.params import presets

ROOT = Path(__file__).parents[2]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
TRAIN = {re.match(r"[\w-]+", text)[0].lower() for text in EXTRAS["train"]}
MODULES = sorted(name for name, makers in packages_distributions().items() if TRAIN & {one.lower() for one in makers})
JUDGING = [
    "--help",
    "preset digits_small_2026 --force",
    "variants --json",
    f"compare --by diffusion.parameterization.name --from {ROOT}/metrics/studies/parameterization --json",
    "ladder show digits --json",  # its cost is in operations, which torch counts
    "runs --json",
]
CODE = f"""
import sys
sys.modules.update(dict.fromkeys({MODULES}))
from ddpm.cli import main
for words in sys.argv[1:]:
    try:
        main(words.split())
    except SystemExit as end:
        if end.code:
            sys.exit(end.code)
"""


def ddpm(*commands: str) -> subprocess.CompletedProcess:
    """The commands' result where none of the extra's modules can be imported."""
    return subprocess.run([sys.executable, "-c", CODE, *commands], capture_output=True, text=True, timeout=300)


def test_commands_that_judge_need_nothing_of_the_extra_and_one_that_draws_names_it(folder):
    assert {"torch", "mlflow", "dvc", "sklearn"} <= set(MODULES)
    Path("params.yaml").write_text(presets.text("digits_small"))
    shutil.copytree(ROOT / "ladders/digits", "ladders/digits")
    shutil.copy(ROOT / "ladders/digits.yaml", "ladders")
    pygit2.init_repository(".")
    done = ddpm(*JUDGING)
    assert (done.returncode, done.stderr) == (0, "")
    done = ddpm(f"sample --model {ROOT}/models/digits")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "torch" in done.stderr
    assert "ddpm-referee[train]" in done.stderr


def test_a_table_is_judged_in_an_empty_folder(folder):
    """Without params.yaml and a git repository, too."""
    runs = [
        f"{arm},{seed},{loss + seed / 9 + seed % 2 / 90}" for arm, loss in (("a", 2), ("=b", 1)) for seed in range(6)
    ]
    Path("scores.csv").write_text("\n".join(["arm,seed,loss", *runs]))
    done = ddpm("judge scores.csv --better lower --out verdict --table t.tex t.csv")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("=b is better")
    assert "\n'=b," in Path("t.csv").read_text()  # a spreadsheet would take it for a formula
    assert {"verdict.md", "verdict.json", "verdict.png"} <= {path.name for path in Path("verdict").iterdir()}
    assert {path.name for path in Path().iterdir()} == {"scores.csv", "verdict", "t.tex", "t.csv"}
    done = ddpm("judge scores.csv --better lower --gate", "gate")
    assert (done.returncode, done.stdout[:11], done.stderr.count("\n")) == (2, "gate: pass\n", 1)
    assert "judge" in done.stderr
